"""Azurite, Microsoft's own stand-in for Azure's blob storage, for the tests: by npm, in memory, on loopback.

python -m tests.remote.azurite fetch     install it, once (about 190 MB), outside the repository
"""

import base64
import hmac
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256
from pathlib import Path

from tests.debian import Unavailable, cached_tree

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account of every Azurite; Microsoft's documents name it."""
VERSION = "azurite@3.35.0"
FETCH_S, START_S = 60.0, 20.0


@dataclass(frozen=True)
class Azurite:
    """A running server."""

    port: int

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client finds in its environment."""
        return {"AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY}

    def make_container(self, name: str) -> None:
        """Create a container, by a request signed with the account's key."""
        date, version = formatdate(usegmt=True), "2021-12-02"
        canonical = f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        text = "PUT\n" + "\n" * 11 + canonical
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), sha256)).decode()
        headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {ACCOUNT}:{signature}"}
        address = f"{self.endpoint}/{name}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(address, method="PUT", headers=headers), timeout=10):
            pass


def fetch() -> Path:
    """Install Azurite unless that was done before; return its program. Raises Unavailable."""
    directory = cached_tree("azurite")
    program = directory / "node_modules/.bin/azurite-blob"
    if program.exists():
        return program
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is not here, and Azurite is a program for it")
    directory.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(directory), VERSION]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_S)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm could not install Azurite within {FETCH_S:.0f} s") from None
    if done.returncode or not program.exists():
        raise Unavailable(f"npm could not install Azurite: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    return program


@contextmanager
def running() -> Iterator[Azurite]:
    """A server for the block, with nothing in it. Raises Unavailable."""
    program = fetch()
    with tempfile.TemporaryDirectory(prefix="backfilld-azurite-", ignore_cleanup_errors=True) as directory:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [str(program), "--inMemoryPersistence", "--skipApiVersionCheck", "--silent", "--disableTelemetry"]
        process = subprocess.Popen(
            [*command, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": directory},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(port)
            yield Azurite(port)
        finally:
            process.kill()
            process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise Unavailable(f"Azurite did not answer within {START_S:.0f} s")


if __name__ == "__main__":
    try:
        print(f"Azurite is {fetch()}")
    except Unavailable as reason:
        sys.exit(f"SKIPPED: the tests against Azure's blob storage; {reason}")
