"""The page in a real Chromium, over the real daemon: no complaint, right in each width and theme, and never old.

Screenshots of what was tried are left in build/page.
"""

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from binance_simulator import Exchange
from binance_simulator.exchange import host_ms
from tests.debian import Unavailable
from tests.e2e.test_live import live_exchange, streamed
from tests.e2e.world import Daemon, ended
from tests.page.chromium import Tab, browser_tab, fetch

BUILD = Path(__file__).parents[2] / "build" / "page"

try:
    fetch()
except Unavailable as reason:
    pytest.skip(f"the page in a browser: {reason}", allow_module_level=True)


@asynccontextmanager
async def daemon_with_page(
    directory: Path, rate: float = 8.0, seen: list[Exchange] | None = None
) -> AsyncIterator[str]:
    """A daemon that is live on an exchange, and the address of its page; ``seen`` gets the exchange."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    async with live_exchange(rate) as exchange:
        if seen is not None:
            seen.append(exchange)
        daemon = streamed(exchange, directory / "cache", API_LISTEN=address)
        process = daemon.start("run")
        try:
            await until_ready(daemon, f"http://{address}/readyz")
            yield f"http://{address}/"
        finally:
            process.send_signal(signal.SIGTERM)
            await ended(process)


async def until_ready(_daemon: Daemon, url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        with trio.fail_after(40):
            while True:
                try:
                    if (await client.get(url)).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                await trio.sleep(0.1)


async def until_drawn(tab: Tab) -> None:
    with trio.fail_after(15):
        while await tab.value("document.querySelectorAll('figure.script canvas').length") < 4:
            await trio.sleep(0.1)


@pytest.mark.parametrize("width", [360, 768, 1920, 3840])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_it_is_right_in_each_width_and_theme(tmp_path: Path, width: int, dark: bool) -> None:
    async with daemon_with_page(tmp_path) as url, browser_tab() as tab:
        await tab.look(width, dark=dark)
        await tab.open(url)
        await until_drawn(tab)
        await tab.screenshot(BUILD / f"{width}-{'dark' if dark else 'light'}.png")
        assert await tab.value("document.documentElement.scrollWidth") <= width
        outside = """[...document.querySelectorAll('section, figure, dl')].filter((each) =>
            each.getBoundingClientRect().right > innerWidth + 1).length"""
        assert await tab.value(outside) == 0
        assert "Live and complete" in await tab.text("verdict")
        assert tab.complaints == []


async def test_a_trade_shows_within_two_seconds(tmp_path: Path) -> None:
    """By the exchange's clock, which stands at another time of day than the browser's."""
    seen: list[Exchange] = []
    async with daemon_with_page(tmp_path, rate=0.5, seen=seen) as url, browser_tab() as tab:
        await tab.open(url)
        shift_ms = host_ms() - seen[0].now_ms()
        late = """new Promise((done) => {
            const row = document.getElementById("row-spot-BTCUSDT");
            const newest = () => row.querySelector("time")?.dateTime;
            const before = newest();
            const watch = new MutationObserver(() => {
                if (newest() && newest() !== before) done(Date.now() - Date.parse(newest()));
            });
            watch.observe(row, { childList: true, subtree: true });
        })"""
        await until_drawn(tab)
        for _ in range(3):
            assert await tab.value(late) - shift_ms < 2000
        assert tab.complaints == []


async def test_it_is_right_without_script(tmp_path: Path) -> None:
    async with daemon_with_page(tmp_path) as url, browser_tab() as tab:
        await tab.script(on=False)
        await tab.look(1280)
        # The first look has the figures read; a browser without script shows what stands then.
        await tab.open_without_script(url)
        await trio.sleep(2)
        await tab.open_without_script(url)
        await tab.screenshot(BUILD / "without-script.png")
        html = await tab.html()
        assert "Live and complete" in html
        assert '<polyline class="price" points="' in html
        assert "<canvas" not in html
        assert tab.complaints == []


async def test_everything_works_by_keyboard(tmp_path: Path) -> None:
    async with daemon_with_page(tmp_path) as url, browser_tab() as tab:
        await tab.look(1280)
        await tab.open(url)
        focused: list[str] = []
        for _ in range(40):
            await tab.press("Tab", 9)
            active = "document.activeElement.tagName + ' ' + document.activeElement.textContent.slice(0, 24)"
            focused.append(str(await tab.value(active)))
        assert focused[0] == "A Skip to the figures"
        summaries = int(await tab.value("document.querySelectorAll('summary').length"))
        assert sum(each.startswith("SUMMARY") for each in focused) >= summaries
        assert any(each.startswith("DIV") for each in focused), "tables that scroll can be reached"
        await tab.value("document.querySelector('summary').focus()")
        await tab.press("Enter", 13, text="\r")
        assert await tab.value("document.querySelector('details').open")


async def test_a_page_whose_daemon_is_gone_says_that_it_is_old(tmp_path: Path) -> None:
    async with browser_tab() as tab:
        async with daemon_with_page(tmp_path) as url:
            await tab.open(url)
            await until_drawn(tab)
            assert await tab.text("link") == ""
        with trio.fail_after(10):
            while "old" not in await tab.text("link"):
                await trio.sleep(0.1)
