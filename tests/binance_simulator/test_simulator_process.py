"""The simulator as a process: its first line, its tape from a file, its end."""

import json
import signal
import subprocess
import sys
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import trio
from click.testing import CliRunner

from binance_simulator.__main__ import main

MODULE = [sys.executable, "-m", "binance_simulator"]


async def first_line(process: trio.Process) -> dict[str, Any]:
    assert process.stdout is not None
    text = b""
    while not text.endswith(b"\n"):
        text += await process.stdout.receive_some()
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_it_says_where_it_listens_and_ends_cleanly(
    tmp_path: Path, make_frame: Any, ending: signal.Signals
) -> None:
    make_frame([7, 8], [1000, 2000]).write_parquet(tmp_path / "tape.parquet")
    command = [*MODULE, "--tape", str(tmp_path / "tape.parquet"), "--instrument", "spot:AAA", "--instrument", "um:BBB"]
    command += ["--trades", "100", "--interval", "10S", "--limit", "50", "--live-rate", "0"]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process: trio.Process = await nursery.start(run)
        with trio.fail_after(10):
            url = (await first_line(process))["url"]
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                spot = await client.get("/api/v3/aggTrades?symbol=AAA")
                futures = await client.get("/fapi/v1/aggTrades?symbol=BBB")
            process.send_signal(ending)
            assert await process.wait() == 0
            assert process.stderr is not None
            assert await process.stderr.receive_some() == b""
    assert [row["a"] for row in spot.json()] == [7, 8]
    assert spot.headers["x-mbx-used-weight-10s"] == "4"
    assert len(futures.json()) == 100


def test_equal_ends_give_equal_tapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --until, a run after a restart goes on with the same trades."""
    frames: list[pl.DataFrame] = []
    monkeypatch.setattr(
        "binance_simulator.__main__.trio.run",
        lambda serve: frames.extend(tape.visible(1_767_232_799_999) for tape in serve.args[0].values()),
    )
    for _ in range(2):
        result = CliRunner().invoke(main, ["--until", "2026-01-01T00:00:00Z", "--hours", "1", "--trades", "10"])
        assert result.exit_code == 0, result.output
    assert frames[0].equals(frames[1])
    assert frames[0].height == 10 + 20 * 7200


def test_past_days_and_their_archive_can_be_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr("binance_simulator.__main__.trio.run", lambda serve: served.extend(serve.args))
    command = ["--instrument", "spot:AAA", "--instrument", "um:BBB", "--days", "31", "--daily-trades", "300"]
    command += ["--until", "2026-02-01T12:00:00Z", "--live-rate", "0", "--archive-delay", "60"]
    command += ["--archive-defect", "*=missing", "--archive-defect", "um:BBB/2026-01-31=cut_zip,holes"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    tapes, options, _ = served
    for tape in tapes.values():
        days = tape.frame.group_by(pl.from_epoch("T", time_unit="ms").dt.date()).len().sort("T")
        assert days["len"].to_list() == [300] * 31 + [150]
        assert days["T"][0] == date(2026, 1, 1)
    assert options.archive_delay_s == 60
    assert options.archive_defects == {"*": ["missing"], "um:BBB/2026-01-31": ["cut_zip", "holes"]}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--instrument", "spot"], "write market:SYMBOL"),
        (["--interval", "1X"], "write a number and one of S M H D"),
        (["--until", "tomorrow"], "write ISO 8601"),
        (["--until", "2026-01-01"], "has no time zone"),
        (["--fault", "nonsense"], "nonsense"),
        (["--archive-defect", "*=nonsense"], "nonsense"),
        (["--archive-defect", "spot:AAA/soon=holes"], "a day is written YYYY-MM-DD"),
    ],
)
def test_wrong_arguments_are_refused_with_the_rule(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert sentence in " ".join(result.output.split())
