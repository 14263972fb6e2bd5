"""``status --check``: by what the daemon last reported, and never better than that."""

from dataclasses import asdict
from pathlib import Path

import pytest

from backfilld.core.monitor.freshness import Freshness
from backfilld.services.check import check_cache
from backfilld.store.daemon_state import Activity, save_activity
from tests.fakes import BTC, ETH

NOW_MS = 1_800_000_000_000.0


def reported(directory: Path, **of: object) -> None:
    values: dict[str, object] = {"saved_ms": NOW_MS - 5_000, "pid": 7} | of
    save_activity(directory, Activity(**values))  # type: ignore[arg-type]


def fresh(lag_s: float) -> Freshness:
    return Freshness(is_attached=True, complete_ms=NOW_MS - lag_s * 1000)


@pytest.mark.parametrize(
    ("of", "code", "words"),
    [
        ({"freshness": {"spot:BTCUSDT": fresh(5), "spot:ETHUSDT": fresh(59)}}, 0, ""),
        ({"freshness": {"spot:BTCUSDT": fresh(61)}}, 1, "spot:BTCUSDT: 61 s behind, more than 60 s"),
        ({"freshness": {"spot:BTCUSDT": Freshness()}}, 1, "not complete yet"),
        ({"freshness": {"spot:BTCUSDT": fresh(5)}, "trouble": "disk full"}, 1, "the disk fails: disk full"),
        ({}, 1, "no instrument"),
        ({"is_over": True, "freshness": {"spot:BTCUSDT": fresh(5)}}, 75, "process 7 ended 5 s ago"),
        ({"is_over": True, "freshness": {"spot:BTCUSDT": Freshness()}}, 75, "no daemon runs on"),
        ({"saved_ms": NOW_MS - 61_000, "freshness": {"spot:BTCUSDT": fresh(5)}}, 75, "has not reported for 61 s"),
        ({"saved_ms": NOW_MS + 61_000, "freshness": {"spot:BTCUSDT": fresh(5)}}, 75, "is of a time 61 s from now"),
    ],
)
def test_the_code_and_the_reason(tmp_path: Path, of: dict[str, object], code: int, words: str) -> None:
    reported(tmp_path, **of)
    found = check_cache(tmp_path, None, 60, NOW_MS)
    assert (found.exit_code, words in "".join(found.reasons)) == (code, True), asdict(found)
    assert bool(found.reasons) == (code != 0)


def test_without_a_report_no_daemon_runs(tmp_path: Path) -> None:
    assert check_cache(tmp_path, None, 60, NOW_MS).exit_code == 75


def test_an_instrument_that_the_daemon_does_not_keep_is_not_complete(tmp_path: Path) -> None:
    reported(tmp_path, freshness={str(BTC): fresh(3)})
    assert check_cache(tmp_path, (BTC,), 60, NOW_MS).exit_code == 0
    assert check_cache(tmp_path, (BTC, ETH), 60, NOW_MS).reasons == (f"{ETH}: not complete yet",)
    assert check_cache(tmp_path, (BTC,), 60, NOW_MS).lag_s == 3
