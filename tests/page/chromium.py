"""A real Chromium for the tests of the page: Debian's, unpacked into a private tree, and driven over its own protocol.

    python -m tests.page.chromium fetch    download and unpack the packages, once (about 80 MB, 300 MB unpacked)

Owns the browser's life and the few commands that the tests need. Errors, refused loads and broken policies are noted
as they happen.
"""

import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import trio
from websockets.trio.client import ClientConnection, connect

from tests.debian import Unavailable, fetched

PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
PROGRAM = "usr/lib/chromium/chromium-headless-shell"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
START_S = 30.0


def fetch() -> Path:
    """Where the packages are. Raises Unavailable."""
    return fetched("chromium", PACKAGES, PROGRAM)


@dataclass
class Tab:
    """One page in the browser. ``complaints`` are errors on its console, uncaught ones, failed loads and violations of
    its policy."""

    connection: ClientConnection
    complaints: list[str] = field(default_factory=list)
    _numbers: Any = field(default_factory=lambda: count(1))
    _answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    _arrived: trio.Condition = field(default_factory=trio.Condition)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        await self.connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        with trio.fail_after(30):
            async with self._arrived:
                while number not in self._answers:
                    await self._arrived.wait()
        answer = self._answers.pop(number)
        assert "error" not in answer, answer
        return dict(answer["result"])

    async def listen(self) -> None:
        """Take what comes, until cancelled."""
        async for text in self.connection:
            message = json.loads(text)
            if "id" in message:
                async with self._arrived:
                    self._answers[message["id"]] = message
                    self._arrived.notify_all()
            else:
                self._note(message["method"], message["params"])

    def _note(self, method: str, of: dict[str, Any]) -> None:
        match method:
            case "Log.entryAdded" if of["entry"]["level"] == "error":
                self.complaints.append(f"{of['entry']['source']}: {of['entry']['text']} {of['entry'].get('url', '')}")
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(of["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if of["type"] in {"error", "warning", "assert"}:
                self.complaints.append(json.dumps(of["args"]))
            case "Audits.issueAdded":
                self.complaints.append(json.dumps(of["issue"]))
            case "Network.loadingFailed" if not of.get("canceled"):
                self.complaints.append(f"not loaded: {of}")

    async def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        await self.call("Page.navigate", url=url)
        with trio.fail_after(20):
            while await self.value("document.readyState") != "complete":
                await trio.sleep(0.05)

    async def open_without_script(self, url: str) -> None:
        """The same where the page may run no script, so that it cannot be asked."""
        await self.call("Page.navigate", url=url)
        await trio.sleep(1)

    async def html(self) -> str:
        """The document as it stands."""
        root = (await self.call("DOM.getDocument"))["root"]["nodeId"]
        return str((await self.call("DOM.getOuterHTML", nodeId=root))["outerHTML"])

    async def press(self, key: str, code: int, **more: str) -> None:
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    async def value(self, expression: str) -> Any:
        """What an expression comes to, in the page."""
        parameters = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        found = await self.call("Runtime.evaluate", **parameters)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def text(self, id_: str) -> str:
        """The text of an element."""
        return str(await self.value(f"document.getElementById({json.dumps(id_)}).textContent"))

    async def look(self, width: int, height: int = 900, *, dark: bool = False, scale: float = 1) -> None:
        """Have a window of this width, in that theme."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        await self.call("Emulation.setScrollbarsHidden", hidden=True)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[theme])

    async def script(self, *, on: bool) -> None:
        """Run scripts from the next page on, or not."""
        await self.call("Emulation.setScriptExecutionDisabled", value=not on)

    async def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        path.parent.mkdir(parents=True, exist_ok=True)
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")
        path.write_bytes(base64.b64decode(found["data"]))


@asynccontextmanager
async def browser_tab() -> AsyncIterator[Tab]:
    """A tab in a browser of its own, with a profile that is thrown away. Raises Unavailable."""
    tree = fetch()
    with TemporaryDirectory(prefix="backfilld-chromium-", ignore_cleanup_errors=True) as directory:
        profile = Path(directory)
        process = _started(tree, profile)
        try:
            async with connect(await _address(process, profile), max_size=None, proxy=None) as connection:
                tab = Tab(connection)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(tab.listen)
                    for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
                        await tab.call(f"{domain}.enable")
                    yield tab
                    nursery.cancel_scope.cancel()
        finally:
            process.kill()
            process.wait()


def _started(tree: Path, profile: Path) -> "subprocess.Popen[bytes]":
    fonts = profile / "fonts.conf"
    fonts.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>/usr/share/fonts</dir><dir>{tree}/usr/share/fonts</dir><cachedir>{profile}/fonts</cachedir></fontconfig>"
    )
    environment = {
        "HOME": str(profile),
        "LD_LIBRARY_PATH": ":".join(str(tree / each) for each in LIBRARIES),
        "FONTCONFIG_FILE": str(fonts),
    }
    # Without a sandbox: the tests may run as root, and see no page but our own.
    options = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--no-proxy-server")
    command = [str(tree / PROGRAM), *options, f"--user-data-dir={profile}", "about:blank"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _address(process: "subprocess.Popen[bytes]", profile: Path) -> str:
    """The address of the first tab."""
    noted = profile / "DevToolsActivePort"
    with trio.move_on_after(START_S):
        while not noted.exists() or len(noted.read_text().splitlines()) < 2:
            if process.poll() is not None:
                raise Unavailable(f"Chromium ended with {process.returncode}")
            await trio.sleep(0.05)
        port = int(noted.read_text().split()[0])
        return await _tab_address(port)
    raise Unavailable(f"Chromium did not start within {START_S:.0f} s")


async def _tab_address(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            for each in (await client.get(f"http://127.0.0.1:{port}/json/list")).json():
                if each["type"] == "page":
                    return str(each["webSocketDebuggerUrl"])
            await trio.sleep(0.05)


def main() -> None:
    """Fetch."""
    if sys.argv[1:] != ["fetch"]:
        sys.exit(__doc__)
    try:
        print(f"chromium is in {fetch()}")
    except Unavailable as reason:
        sys.exit(f"SKIPPED: the tests of the page in a browser; {reason}")


if __name__ == "__main__":
    main()
