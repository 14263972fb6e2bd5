"""A fleet whose peers prove themselves by certificates, with the options that the page names; and what ps shows of it.
Run by ``make test-fleet``."""

import json
import shutil
import subprocess
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import pytest
import trio

from backfilld.adapters.object_store import RemoteLocation
from tests.fleet.world import SYMBOLS, Fleet, archive_of, free_port, span
from tests.remote.secrets import SECRET, shown_by_ps

AUTHORITY = """
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=node -keyout node.key -out node.csr
openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out node.pem
"""


def authority(directory: Path) -> Path:
    """A certificate of an authority of its own."""
    directory.mkdir()
    subprocess.run(["sh", "-ec", AUTHORITY], cwd=directory, check=True, capture_output=True)
    return directory


def client_of(directory: Path) -> dict[str, str]:
    """What the page has a client export."""
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    return {
        f"{tls}CA_FILE": f"{directory}/ca.pem",
        f"{tls}CLIENT__CERT": f"{directory}/node.pem",
        f"{tls}CLIENT__KEY": f"{directory}/node.key",
    }


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl: there is nothing to make certificates with")
async def test_a_fleet_with_certificates_fills_and_lets_no_stranger_in(
    tmp_path: Path, location: RemoteLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of another authority is kept out. Neither secret nor key is in the command line of any process."""
    ours, strange = authority(tmp_path / "ours"), authority(tmp_path / "strange")
    options = ["--tls-ca-file", f"{ours}/ca.pem", "--tls-cert", f"{ours}/node.pem", "--tls-key", f"{ours}/node.key"]
    async with archive_of(SYMBOLS[:1], 1, rows=100) as (exchange, first, last):
        fleet, port = Fleet(exchange, location, tmp_path, dask=options, protocol="tls"), free_port()

        def fill(stop: date) -> list[str]:
            return ["fill", *span(first, stop, SYMBOLS[:1]), "--scheduler", f"tls://127.0.0.1:{port}", "--json"]

        with ExitStack() as stack:
            scheduler = stack.enter_context(fleet.scheduler(port))
            worker = stack.enter_context(fleet.worker(port, "node"))
            for name, value in client_of(ours).items():
                monkeypatch.setenv(name, value)
            run = await fleet.run(*fill(last))
            assert run.code == 0, run
            assert json.loads(run.stdout)["pushed"] == 30
            shown = [*shown_by_ps(scheduler.pid), *shown_by_ps(worker.pid)]
            assert len(shown) >= 3  # scheduler, the worker's command, Dask's worker
            assert not [line for line in shown if SECRET in line]
            for name, value in client_of(strange).items():
                monkeypatch.setenv(name, value)
            with pytest.raises(trio.TooSlowError):  # it is waited for, as a scheduler that is not there yet
                await fleet.run(*fill(last + timedelta(days=1)), timeout_s=20)
        logs = b"".join(path.read_bytes() for path in tmp_path.glob("*.log"))
        assert SECRET not in logs
