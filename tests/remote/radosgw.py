"""A real S3 server for the tests: Ceph's radosgw, unpacked from Debian's packages. No root, nothing installed.

    python -m tests.remote.radosgw fetch     download and unpack the packages, once (about 70 MB, 260 MB unpacked)
    python -m tests.remote.radosgw run       start one and show its address, until Ctrl-C

One monitor, one storage daemon in memory and one gateway, on loopback, with a directory of their own that is deleted at
the end. Path style addresses, plain http, one user (ACCESS_KEY, SECRET_KEY).
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from tests.debian import Unavailable, fetched

ACCESS_KEY, SECRET_KEY, REGION = "testkey", "testsecret", "us-east-1"
PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
START_S = 20.0
"""Seconds until the server must answer; it takes about one on an idle machine."""
STARTS = 3
"""So many starts are tried."""


def fetch() -> Path:
    """Download and unpack the packages unless that was done before; return where they are. Raises Unavailable."""
    return fetched("radosgw", PACKAGES, "usr/bin/radosgw")


@dataclass
class Radosgw:
    """A running server."""

    port: int
    tree: Path
    state: Path
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What a client finds in its environment."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}

    def start(self, monitor_port: int) -> None:
        """Start the three processes, and wait until the gateway answers. Raises Unavailable."""
        for folder in ("mon", "osd/0", "rgw", "run"):
            (self.state / folder).mkdir(parents=True)
        cluster, disk = str(uuid.uuid4()), str(uuid.uuid4())
        self._write_configuration(cluster, monitor_port)
        monmap = str(self.state / "monmap")
        self._call("monmaptool", "--create", "--clobber", "--addv", "a", f"[v2:127.0.0.1:{monitor_port}]",
                   "--fsid", cluster, monmap)  # fmt: skip
        self._call("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._spawn("ceph-mon", "-i", "a", "-f")
        # The packages' own Python code is of Debian's Python.
        self._call("/usr/bin/python3", str(self.tree / "usr/bin/ceph"), "--connect-timeout", "20", "osd", "new", disk)
        self._call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._spawn("ceph-osd", "-i", "0", "-f")
        self._call("radosgw-admin", "user", "create", "--uid=test", "--display-name=test",
                   f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")  # fmt: skip
        self._spawn("radosgw", "-n", "client.rgw", "-f")
        self._wait()

    def stop(self) -> None:
        """End the processes; they have nothing to save."""
        for process in reversed(self._processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._processes[-1].poll() is not None:
                raise Unavailable("radosgw ended by itself")
            try:
                with suppress(OSError), urllib.request.urlopen(self.endpoint, timeout=1):
                    return
            except HTTPException as error:
                raise Unavailable(f"another server answers on {self.endpoint}") from error
            time.sleep(0.02)
        raise Unavailable(f"radosgw did not answer on {self.endpoint} within {START_S:.0f} s")

    def _environment(self) -> dict[str, str]:
        libraries = [self.tree / LIBRARIES, self.tree / "lib/x86_64-linux-gnu", self.tree / LIBRARIES / "ceph"]
        return {
            "PATH": f"{self.tree}/usr/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            "PYTHONPATH": f"{self.tree}/usr/lib/python3/dist-packages",
            "CEPH_CONF": str(self.state / "ceph.conf"),
        }

    def _call(self, *command: str) -> None:
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{command[0]} failed: {done.stderr.strip()[-300:]}")

    def _spawn(self, *command: str) -> None:
        with (self.state / f"{command[0]}.out").open("wb") as log:
            null, env = subprocess.DEVNULL, self._environment()
            self._processes.append(subprocess.Popen(command, env=env, stdin=null, stdout=log, stderr=log))

    def _write_configuration(self, cluster: str, monitor_port: int) -> None:
        plugins = self.tree / LIBRARIES / "ceph"
        settings = {
            "fsid": cluster,
            "mon host": f"v2:127.0.0.1:{monitor_port}",
            "mon initial members": "a",
            "public addr": "127.0.0.1",
            "cluster addr": "127.0.0.1",
            "auth cluster required": "none",
            "auth service required": "none",
            "auth client required": "none",
            "ms mon client mode": "crc",  # the default, secure, never connects without authentication
            "run dir": self.state / "run",
            "admin socket": "",
            "log file": f"{self.state}/$name.log",
            "plugin dir": plugins,
            "erasure code dir": plugins / "erasure-code",
            "osd class dir": self.tree / LIBRARIES / "rados-classes",
            "osd pool default size": 1,
            "osd pool default min size": 1,
            "osd pool default pg num": 1,
            "osd pool default pgp num": 1,
            "osd pool default pg autoscale mode": "off",
            "osd crush chooseleaf type": 0,
            "osd objectstore": "memstore",
            "memstore device bytes": 2 << 30,
            "mon allow pool size one": "true",
            "mon data": self.state / "mon/a",
            "mon data avail crit": 1,
            "osd data": self.state / "osd/0",
            "rgw data": self.state / "rgw",
            "rgw frontends": f"beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1",  # else each request waits 40 ms
            "paxos propose interval": 0.05,
            "paxos min wait": 0.01,
        }
        lines = [f"{name} = {value}" for name, value in settings.items()]
        (self.state / "ceph.conf").write_text("\n".join(["[global]", *lines, ""]))


@contextmanager
def running() -> Iterator[Radosgw]:
    """A server for the block, with nothing in it. Raises Unavailable."""
    tree = fetch()
    with tempfile.TemporaryDirectory(prefix="backfilld-radosgw-", ignore_cleanup_errors=True) as state:
        server = _started(tree, Path(state))
        try:
            yield server
        finally:
            server.stop()


def _started(tree: Path, state: Path, starts: int = STARTS) -> Radosgw:
    """Again on other ports if it does not start: somebody else may take a port before the server binds it."""
    port, monitor_port = _free_ports(2)
    server = Radosgw(port, tree, state / str(starts))
    try:
        server.start(monitor_port)
    except BaseException as error:
        server.stop()
        if starts > 1 and isinstance(error, Unavailable):
            return _started(tree, state, starts - 1)
        raise
    return server


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def main() -> None:
    """Fetch, or run until Ctrl-C."""
    try:
        if sys.argv[1:] == ["fetch"]:
            print(f"radosgw is in {fetch()}")
        elif sys.argv[1:] == ["run"]:
            with running() as server, suppress(KeyboardInterrupt):
                print(
                    f"{server.endpoint}  access key {ACCESS_KEY}, secret key {SECRET_KEY}, region {REGION}", flush=True
                )
                signal.pause()
        else:
            sys.exit(__doc__)
    except Unavailable as reason:
        sys.exit(f"SKIPPED: the tests against a real S3 server; {reason}")


if __name__ == "__main__":
    main()
