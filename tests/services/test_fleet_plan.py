"""Planning a fleet by the archive's listing: what it does not have is refused before anything is planned."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import pytest

from backfilld.core.model import Instrument, Market
from backfilld.errors import SettingsError
from backfilld.services import fleet_plan
from backfilld.services.fleet_plan import plan_fleet
from backfilld.settings import Settings

FIRST, LAST = date(2025, 10, 1), date(2025, 10, 31)


class Listing:
    """BTCUSDT has days, NEWUSDT a folder without any of that month."""

    async def days(self, instrument: Instrument, *_: date) -> dict[date, int]:
        return {FIRST: 1_000} if instrument.symbol == "BTCUSDT" else {}

    async def instruments(self, market: Market) -> list[Instrument]:
        return [Instrument(market, symbol) for symbol in ("BTCUSDT", "NEWUSDT")]


@pytest.fixture(autouse=True)
def archive(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def opened(*_: object) -> AsyncIterator[Listing]:
        yield Listing()

    monkeypatch.setattr(fleet_plan, "open_listing", opened)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("spot:BTCUSDTT", r"\. Did you mean spot:BTCUSDT\?"), ("spot:XYZ", ""), ("um:BTCUSDT1", ".*um:BTC")],
)
async def test_a_symbol_that_the_archive_has_not_is_refused_with_the_nearest_name(
    name: str, hint: str, tmp_path: Path
) -> None:
    settings = Settings(cache_dir=tmp_path, state_dir=tmp_path / "state")
    wanted = [Instrument.parse("spot:BTCUSDT"), Instrument.parse(name)]
    for _ in ("asked", "kept"):
        with pytest.raises(SettingsError, match=f"^{name}: the archive has no such symbol{hint}"):
            await plan_fleet(settings, wanted, FIRST, LAST)


async def test_a_listed_symbol_without_days_in_the_span_has_no_task(tmp_path: Path) -> None:
    settings = Settings(cache_dir=tmp_path, state_dir=tmp_path / "state")
    wanted = [Instrument.parse("spot:NEWUSDT"), Instrument.parse("spot:BTCUSDT")]
    plan = await plan_fleet(settings, wanted, FIRST, LAST)
    assert [task.instrument for task in plan.tasks] == wanted[1:]
