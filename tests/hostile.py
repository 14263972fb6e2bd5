"""An exchange behind the port that breaks every rule that we know to be broken, by dice.

It records what the law needs: what it has shown, and what was sent to it while it had banned us.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from random import Random

import polars as pl
from msgspec.structs import replace

from backfilld.core.backfill.outcome import TOO_OLD
from backfilld.core.backfill.questions import At, Before, Newest, Page, Query, Since, Tail
from backfilld.core.markets import RULES
from backfilld.core.model import Instrument, Market
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import ExchangeError, RateLimited, RequestRejected, TransientError
from backfilld.ports import MarketInfo, Reply, Usage
from tests.fakes import FakeExchange, Tape, trade_frame


class OddTape(Tape):
    """A tape whose times need not ascend: the exchange filters by time and answers in the sequence of ids."""

    def __init__(self, frame: pl.DataFrame) -> None:
        super().__init__(frame)
        self.by_id = frame.sort("a")
        self._latest = frame["T"].cum_max()
        self._earlier: dict[int, OddTape] = {}

    def answer(self, query: Query) -> pl.DataFrame:
        """By the exchange's rules of selection."""
        t = pl.col("T")
        match query:
            case Since(start_ms, rows):
                return self.frame.filter(t >= start_ms).head(rows)
            case Before(stop_ms, rows) | Newest(stop_ms=int(stop_ms), rows=rows):
                return self.frame.filter(t < stop_ms).tail(rows)
            case Page() | Tail():
                return self.by_id.filter(pl.col("a") >= query.first_id).head(query.rows)
            case At(first_id, rows):
                return self.by_id.filter(pl.col("a") >= first_id).head(rows)
            case _:
                return super().answer(query)

    def until(self, now_ms: float) -> "OddTape":
        """The tape as it stood then: a trade is there once those before it are."""
        height = int(self._latest.search_sorted(now_ms, "right"))
        if height not in self._earlier:
            self._earlier[height] = OddTape(self.frame.head(height))
        return self._earlier[height]


def odd_tape(
    times: Sequence[int], first_id: int, absent: Collection[int], jump: int, inversions: Sequence[int]
) -> OddTape:
    """Trades at these times; ``absent`` are numbers of trades that the exchange lost, and from the middle on all ids
    are ``jump`` higher, or lower. Around each instant of ``inversions`` two neighbours have each other's time."""
    swapped = list(times)
    for at_ms in inversions:
        later = next((n for n, each in enumerate(times) if each >= at_ms), 0)
        if later:
            swapped[later - 1], swapped[later] = at_ms + 1, at_ms - 1
    middle = len(times) // 2
    rows = [(first_id + n + (jump if n >= middle else 0), at) for n, at in enumerate(swapped) if n not in absent]
    return OddTape(trade_frame([a for a, _ in rows], [at for _, at in rows]))


@dataclass
class HostileExchange(FakeExchange):
    """``lags_ms`` of its replicas, a ``page_cap``, a share of odd answers of each kind, a lookback, and a limit that it
    lowers without a word. With ``other_days`` some odd answers have the right ids and the times of another day; with
    ``other_rows`` they have those of another hour, or another symbol's prices and trade ids. A ``foreign`` tape is
    another symbol: the first ``foreign_first`` answers, and a share of ``foreign_share`` of all, are what it has to the
    same question."""

    lags_ms: Sequence[int] = (0,)
    page_cap: int = 1000
    odd_share: float = 0.0
    lookback_ms: int | None = None
    true_limit: int = 6000
    other_days: bool = False
    other_rows: bool = False
    foreign: Tape | None = None
    foreign_share: float = 0.0
    foreign_first: int = 0
    dice: Random = field(default_factory=lambda: Random(0))
    shown: dict[Instrument, set[int]] = field(default_factory=dict)
    banned_until_ms: float = 0.0
    sent_in_bans: int = 0
    refusals: Counter[int] = field(default_factory=Counter)

    async def trades(self, instrument: Instrument, query: Query) -> Reply[pl.DataFrame]:
        """Answer from any replica, wrongly now and then."""
        self.asked.append((instrument, query))
        usage, refusal = await self._admit(instrument.market, Endpoint.TRADES)
        if refusal is not None:
            return Reply(usage, refusal)
        if self._is_too_old(instrument, query):
            return Reply(usage, RequestRejected("-4166 Search window is restricted", status=400, code=TOO_OLD))
        seen_ms = self.now_ms - self.dice.choice(self.lags_ms)
        rows = self.tapes[instrument].until(seen_ms).answer(query).head(self.page_cap)
        is_foreign = len(self.asked) <= self.foreign_first or self.dice.random() < self.foreign_share
        if self.foreign is not None and is_foreign:
            rows = self.foreign.until(seen_ms).answer(query).head(self.page_cap)
        elif self.dice.random() < self.odd_share:
            rows = self._odd(rows)
        is_true = rows.join(self.tapes[instrument].frame, on=["a", "T", "p", "f"], how="anti").is_empty()
        if is_true and (rows["a"].diff().drop_nulls() > 0).all():
            # What an answer shows that contradicts itself, or has the times of another day, is nothing.
            self.shown.setdefault(instrument, set()).update(rows["a"])
        return Reply(usage, rows)

    async def market_info(self, market: Market, symbols: Sequence[str], *, whole: bool = False) -> Reply[MarketInfo]:  # noqa: ARG002
        """exchangeInfo, with the limit that is in force."""
        usage, refusal = await self._admit(market, Endpoint.INFO)
        if refusal is not None:
            return Reply(usage, refusal)
        limits = (Limit(self.true_limit, 1, "MINUTE"),)
        return Reply(usage, MarketInfo(limits, dict.fromkeys(symbols, self.tick), self.now_ms))

    async def _admit(self, market: Market, endpoint: Endpoint) -> tuple[Usage, ExchangeError | None]:
        usage = await self._travel(market, RULES[market].weights[endpoint])
        self.sent_in_bans += self.now_ms < self.banned_until_ms
        pool, minute = RULES[market].pool, self.now_ms // 60_000
        if self.weight_by_pool[pool, minute] > self.true_limit:
            self.refusals[minute] += 1
            wait_s = 60.0 - self.now_ms % 60_000 / 1000
            is_ban = self.refusals[minute] > 8
            if is_ban:
                self.banned_until_ms, wait_s = self.now_ms + 120_000, 120.0
            return usage, RateLimited("-1003 Too much request weight", retry_after_s=wait_s, banned=is_ban)
        if self.dice.random() < self.odd_share / 3:
            return self._odd_usage(usage), None
        if self.dice.random() < self.odd_share / 3:
            return usage, TransientError("503: no JSON")
        return usage, None

    def _is_too_old(self, instrument: Instrument, query: Query) -> bool:
        if self.lookback_ms is None:
            return False
        edge_ms = self.now_ms - self.lookback_ms
        match query:
            case Page() | Tail():
                first = query.first_id
            case At(first_id):
                first = first_id
            case Since(start_ms) | Before(start_ms):
                return start_ms < edge_ms
            case _:
                return False
        rows = self.tapes[instrument].frame.filter(pl.col("a") >= first)
        return rows.height > 0 and rows["T"][0] < edge_ms

    def _odd(self, rows: pl.DataFrame) -> pl.DataFrame:
        middle = rows.height // 2
        odd = [
            rows.clear(),
            rows.head(middle),
            pl.concat([rows[:middle], rows[middle + 1 :]]),
            pl.concat([rows, rows]),
            rows.reverse(),
            rows[middle:],
        ]
        if self.other_days:
            odd += [rows.with_columns(pl.col("T") + shift) for shift in (-86_400_000, 86_400_000)]
        if self.other_rows:
            odd += [rows.with_columns(pl.col("T") + shift) for shift in (-3_600_000, 3_600_000)]
            odd += [rows.with_columns(pl.col("p") * 40, pl.col("f", "l") * 7)]
        return self.dice.choice(odd)

    def _odd_usage(self, usage: Usage) -> Usage:
        wrong = self.dice.choice([0, 31, 3_650]) * 86_400_000
        return self.dice.choice(
            [
                Usage(),
                replace(usage, used={"1m": 10**9}),
                replace(usage, used={"1m": 1}),
                replace(usage, server_ms=(usage.server_ms or 0) + wrong),
                replace(usage, server_ms=0),
            ]
        )
