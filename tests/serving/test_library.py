"""A page of stored trades is made without the live ones, unless it reaches them."""

from pathlib import Path

import msgspec
import pytest
import trio

from backfilld.adapters.served_days import ServedDays
from backfilld.core.day.addition import Addition
from backfilld.core.live.trades import trades_of
from backfilld.core.model import day_start_ms
from backfilld.core.serving.questions import TradesQuestion
from backfilld.core.serving.texts import Digits
from backfilld.core.serving.timeline import Piece
from backfilld.serving.clock import Clock
from backfilld.serving.library import Found, Library
from backfilld.serving.tails import Tail, Tails
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.waiting_days import WaitingDays
from tests.store.frames import DAY, SPOT, day_frame


async def ids_from(library: Library, from_id: int, limit: int = 10) -> list[int] | None:
    found: Found | None = await library.trades(TradesQuestion(SPOT, limit, from_id=from_id), Digits())
    return None if found is None else [row["a"] for row in msgspec.json.decode(found.body)]


@pytest.mark.parametrize("live_from", [1100, 1150])
async def test_live_trades_are_looked_at_only_where_a_page_reaches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live_from: int
) -> None:
    manager = BackfillCacheManager(instrument_directory(tmp_path, SPOT), SPOT)
    WaitingDays(300.0).append(manager, Addition(SPOT, DAY, day_frame(range(1000, 1100))), 0.0)
    tails, looked, pieces = Tails(), list[Tail](), Tail.pieces

    def looking(tail: Tail) -> list[Piece]:
        looked.append(tail)
        return pieces(tail)

    tails.tail(SPOT).add(trades_of(day_frame(range(live_from, live_from + 40))))
    monkeypatch.setattr(Tail, "pieces", looking)
    now_ms = day_start_ms(DAY) + 3_600_000
    async with trio.open_nursery() as nursery:
        days = ServedDays(lambda _: manager, nursery)
        library = Library(days, tails, Clock(lambda _: (now_ms, now_ms), lambda _: True))
        assert await ids_from(library, 1000) == [*range(1000, 1010)]
        assert not looked
        adjoins = live_from == 1100
        assert await ids_from(library, 1095) == ([*range(1095, 1105)] if adjoins else None)
        assert await ids_from(library, 1099, 1) == [1099]
        assert await ids_from(library, 1120, 100) == ([*range(1120, 1140)] if adjoins else None)
        assert await ids_from(library, live_from + 40) == []
        assert looked
