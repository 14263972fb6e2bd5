"""What an outside tester broke once, each as small as it goes."""

from datetime import timedelta
from pathlib import Path

import pytest

from backfilld.core.model import Instrument
from binance_simulator import ArchiveDefect, ExchangeOptions, Tape
from tests.e2e.world import TODAY, Daemon, Ended, at_hour, exchange_at

FUTURES = Instrument.parse("um:BTCUSDT")
FIRST = TODAY - timedelta(days=6)


async def filled(directory: Path, defect: ArchiveDefect, days: int) -> tuple[Ended, int]:
    """A fill of so many days beyond the futures' lookback, from FIRST on, which has the defect with those after it; and
    the number of requests."""
    tape = Tape.generate_days(first_day=FIRST - timedelta(days=2), stop_ms=at_hour(1), trades_per_day=100, seed=1)
    defects = {f"{FUTURES}/{FIRST + timedelta(days=n)}": [defect] for n in range(days)}
    options = ExchangeOptions(archive_delay_s=0, archive_defects=defects)
    async with exchange_at(2, {FUTURES: tape}, options) as exchange:
        daemon = Daemon(exchange, directory / "cache", {"ARCHIVE_URL": exchange.url, "INSTRUMENTS": str(FUTURES)})
        last = FIRST + timedelta(days=days - 1)
        ended = await daemon.run("fill", "--from", str(FIRST), "--to", str(last), timeout_s=20)
        return ended, len(exchange.requests)


@pytest.mark.parametrize("days", [1, 2, 3])
async def test_a_span_that_no_source_has_ends_after_a_few_requests(tmp_path: Path, days: int) -> None:
    """The new plan was the old one, and the exchange was asked without end."""
    ended, requests = await filled(tmp_path, ArchiveDefect.MISSING, days)
    assert (ended.code, requests <= 10) == (1, True), (ended, requests)


async def test_a_day_cut_short_that_no_source_completes_is_not_done(tmp_path: Path) -> None:
    """Three fifths of the day were missing, and the exit code was 0."""
    ended, _ = await filled(tmp_path, ArchiveDefect.TRUNCATED_DAY, 1)
    assert ended.code == 1, ended
    assert "nothing proves with which trade it ends" in ended.stderr
