"""What a person sees: the summary's figures, and rows that never fail for what is not known yet."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pyte
import pytest
import rich
import trio
from rich.console import Console

from backfilld import Instrument
from backfilld.assembly import assembled
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.day.figures import Figures
from backfilld.core.markets import Pool
from backfilld.core.model import IdRange
from backfilld.core.sync.standing import Standing, Statistics
from backfilld.core.weight.pauses import Reason
from backfilld.core.weight.statistics import BudgetStatistics
from backfilld.settings import Settings
from backfilld.surfaces.progress import print_summary, show_progress
from tests.store.frames import day_frame

TRADES = day_frame(range(1000, 3345))
DONE = Outcome(
    instrument=Instrument.parse("spot:BTCUSDT"),
    complete=True,
    trades=85_382,
    cached=70_432,
    seconds=12.345,
    requests=18,
    weight=1_072,
    context=Figures.of(TRADES, 0.1),
)
LOST = Outcome(
    instrument=Instrument.parse("um:NOSUCHUSDT"),
    complete=False,
    trades=0,
    cached=0,
    seconds=0.5,
    requests=1,
    weight=1,
    missing=(IdRange(1, 5),),
    reasons=("the exchange lists no such symbol",),
)


def summary(*outcomes: Outcome) -> dict[str, list[str]]:
    """The printed table's rows: name to cells."""
    console = Console(file=io.StringIO(), width=100)
    print_summary(outcomes, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    first, *lines = text.splitlines() or [""]
    rows = [re.split(r"  +", line) for line in lines]
    return {"": first.split(), **{row[0]: row[1:] for row in rows}}


def test_the_summary_holds_the_figures() -> None:
    rows = summary(DONE)
    assert rows[""] == ["spot:BTCUSDT"]
    assert rows["complete"] == ["yes"]
    assert rows["trades"] == ["85,382"]
    assert rows["downloaded"] == ["14,950"]
    assert rows["stored before"] == ["82.5%"]
    assert rows["seconds"] == ["12.35"] or rows["seconds"] == ["12.34"]
    assert (rows["requests"], rows["weight"]) == (["18"], ["1,072"])
    prices, quantities = TRADES["p"].to_list(), TRADES["q"].to_list()
    vwap = sum(p * q for p, q in zip(prices, quantities, strict=True)) / sum(quantities)
    assert float(rows["VWAP"][0]) == pytest.approx(vwap, rel=1e-7)
    assert float(rows["range"][0]) == pytest.approx(1.2)
    signed = sum(-q if m else q for q, m in TRADES.select("q", "m").iter_rows())
    assert float(rows["cumulative delta"][0]) == pytest.approx(signed, rel=1e-6)
    assert 100 <= float(rows["POC"][0]) <= 101.2


def test_an_incomplete_outcome_without_figures_is_shown_as_such() -> None:
    rows = summary(DONE, LOST)
    assert rows["complete"] == ["yes", "NO"]
    assert rows["trades"] == ["85,382", "0"]
    assert rows["VWAP"][1] == rows["POC"][1] == rows["range"][1] == rows["cumulative delta"][1] == "-"


def test_a_day_without_volume_has_no_figures_and_no_failure() -> None:
    """Complete, and nothing was traded."""
    rows = summary(replace(LOST, complete=True, context=Figures(0.1)))
    assert rows["VWAP"] == rows["POC"] == rows["range"] == ["-"]
    assert rows["stored before"] == ["-"]


def test_no_outcome_at_all_is_no_table() -> None:
    assert summary() == {"": []}


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_summary_of_many_instruments_is_cut_and_wrapped_nowhere(width: int) -> None:
    """Instruments that do not fit side by side stand below each other."""
    names = [f"um:A{n}USDT" for n in range(12)]
    outcomes = [replace(DONE, instrument=Instrument.parse(name)) for name in names]
    console = Console(file=io.StringIO(), width=width)
    print_summary(outcomes, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    assert [word for word in text.split() if word.startswith("um:")] == names
    assert "…" not in text


class _Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def terminal() -> Iterator[_Terminal]:
    """Stdout is a terminal meanwhile. No fixture: pytest puts its own stdout back before a test begins."""
    screen = _Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm-256color")
        patch.setattr(sys, "stdout", screen)
        patch.setattr(rich, "_console", Console(file=screen, width=120, color_system=None))
        yield screen


async def wait_shown(screen: _Terminal, text: str) -> None:
    """Until the text has been drawn; rich draws from a thread of its own, on the real clock."""
    with trio.fail_after(10):
        while text not in screen.getvalue():
            await trio.sleep(0.01)


async def test_rows_draw_what_is_known_and_nothing_of_them_stays() -> None:
    """First nothing is known; then a part is fetched, with the weight used so far and a pause."""
    settings = Settings(cache_enabled=False, spot_url="http://127.0.0.1:1")
    with terminal() as screen, assembled(settings, once=True) as assembly:
        pipeline = assembly.pipeline
        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_progress, pipeline)
            await wait_shown(screen, "spot:BTCUSDT")
            standing = Standing(wanted=50_000, fetched=12_345)
            pipeline.statistics.value = Statistics(standings={Instrument.parse("spot:BTCUSDT"): standing})
            await wait_shown(screen, "12,345 of 50,000")
            pipeline.governor.statistics.value = {
                Pool.SPOT: BudgetStatistics(6000, "1m", allowed=4800, used=72, paused_ms=90_000, reason=Reason.BANNED)
            }
            await wait_shown(screen, "spot weight 72 of 4,800 per 1m, banned for 90 s")
            nursery.cancel_scope.cancel()
    terminal_now = pyte.Screen(120, 40)
    pyte.Stream(terminal_now).feed(screen.getvalue().replace("\n", "\r\n"))
    assert [line for line in terminal_now.display if line.strip()] == []
