"""The fuzz can fail: each promise is broken once by a process that does just that."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from binance_simulator import ExchangeOptions, Pool
from tests.e2e.world import BTC, Daemon, exchange_at
from tests.fuzz import driver
from tests.fuzz.cases import Case, make_case
from tests.fuzz.driver import Verdict, look_at

PLAIN = replace(make_case("1/1"), command="once", options=ExchangeOptions(), oddities=(), days=0)
GET = """
import os, time, urllib.error, urllib.request
def get(path="ping"):
    try:
        urllib.request.urlopen(os.environ["BACKFILL_SPOT_URL"] + "/api/v3/" + path).read()
    except urllib.error.HTTPError:
        pass
"""


@dataclass
class Impostor(Daemon):
    """Another program in the place of backfilld."""

    program: str = ""

    def command(self, *_arguments: str) -> list[str]:  # type: ignore[override]
        return [sys.executable, "-c", self.program]


async def broken_by(program: str, case: Case, place: Path, *, banned: bool = False, most_s: float = 20) -> list[str]:
    verdict = Verdict(case)
    async with exchange_at(12, {BTC: case.tape()}, case.options) as exchange:
        if banned:
            exchange.ban(Pool.SPOT, 60)
        await look_at(verdict, Impostor(exchange, place / "cache", program=program), case.command, most_s, "faulty")
    return verdict.broken


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("pass", "trades lack"),
        (f"{GET}\nget('aggTrades?symbol=BTCUSDT&limit=5')", "trades lack"),
        ("raise ValueError", "crashed"),
        ("raise SystemExit(3)", "ended with 3"),
        ("raise SystemExit(78)", "wrong settings"),
        ("import time; x = bytearray(500_000_000); time.sleep(0.5); raise SystemExit(1)", "MB"),
        (f"{GET}\n[get() for _ in range(420)]; raise SystemExit(1)", "sent 420 requests"),
        ('print(\'{"event": "pipeline_crashed"}\'); raise SystemExit(1)', "pipeline crashed"),
        ("raise SystemExit(1)", None),
    ],
)
async def test_each_broken_promise_is_named(tmp_path: Path, program: str, sentence: str | None) -> None:
    broken = await broken_by(program, PLAIN, tmp_path)
    assert (sentence is None and not broken) or any(str(sentence) in each for each in broken), broken


async def test_requests_in_a_ban_are_named(tmp_path: Path) -> None:
    program = f"{GET}\nget(); time.sleep(1.2); get(); raise SystemExit(75)"
    assert any("requests in a ban" in each for each in await broken_by(program, PLAIN, tmp_path, banned=True))


async def test_who_does_not_end_is_killed_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GRACE_S", 1.0)
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); time.sleep(60)"
    )
    assert any("did not end within" in each for each in await broken_by(program, PLAIN, tmp_path, most_s=1))


async def test_a_daemon_may_not_end_by_itself(tmp_path: Path) -> None:
    broken = await broken_by("raise SystemExit(75)", replace(PLAIN, command="daemon"), tmp_path)
    assert any("ended by itself" in each for each in broken)


def test_a_case_follows_from_its_seed() -> None:
    cases: list[Callable[[], Case]] = [lambda: make_case("7/3"), lambda: make_case("7/3")]
    first, second = (make() for make in cases)
    assert first.options == second.options
    assert first.frame.equals(second.frame)
    assert make_case("7/4").options != first.options


def test_the_cases_mix_every_kind_of_fault() -> None:
    kinds = {kind for number in range(200) for kind in make_case(f"1/{number}").options.faults.kinds}
    assert len(kinds) >= 35
