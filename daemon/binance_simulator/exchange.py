"""The exchange behind its counter: charges a request, chooses its rows, writes the answer, notes what it did.

Owns the state of the simulation: tapes, meters, options, the log of requests. Synchronous and without sockets; must
not wait, and must not know how an answer travels.
"""

import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from urllib.parse import parse_qsl

import polars as pl

from binance_simulator.absences import present_rows, without_absent
from binance_simulator.archive import Archive, ArchiveRecord
from binance_simulator.endpoints import ANSWERS, WEIGHTS
from binance_simulator.exchange_info import exchange_info
from binance_simulator.faults import Fault
from binance_simulator.hostile import hostile_headers
from binance_simulator.market_data import MarketView
from binance_simulator.model import Instrument, Market, Pool
from binance_simulator.options import ExchangeOptions
from binance_simulator.pages import Pages
from binance_simulator.query import Refusal, parameters, parse_trades_query
from binance_simulator.replies import Reply, json_reply, limit_reply, refusal_reply
from binance_simulator.selection import refuse_too_old
from binance_simulator.streams import Streams
from binance_simulator.tampering import DELIVERY_FAULTS, later_rows, replacement, spoiled
from binance_simulator.tape import Tape
from binance_simulator.weights import OK, WeightMeter

_REMEMBERED_REQUESTS = 200_000


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as the exchange saw it: ``arrived_ms`` on the server's clock, ``status`` 0 if it got no answer.

    ``weight`` is what it was charged, ``used_weight`` the window's count after it, everybody's. ``first_id`` and
    ``last_id`` are those of the rows chosen for it, before a fault spoiled them; None where there were none.
    """

    number: int
    arrived_ms: int
    market: Market
    endpoint: str
    query: str
    status: int
    weight: int
    used_weight: int
    rows: int = 0
    first_id: int | None = None
    last_id: int | None = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class _Served:
    """What was chosen for a request."""

    reply: Reply
    rows: int = 0
    first_id: int | None = None
    last_id: int | None = None
    fault: Fault | None = None


def _instrument(key: Instrument | str) -> Instrument:
    return key if isinstance(key, Instrument) else Instrument.parse(key)


def host_ms() -> int:
    """The host's clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


class Exchange:
    """The simulated exchange: its address, its tapes, its meters, its log, and its options, which may be replaced."""

    def __init__(
        self,
        instruments: Mapping[Instrument, Tape] | Mapping[str, Tape],
        options: ExchangeOptions,
        clock_ms: Callable[[], int] = host_ms,
    ) -> None:
        self.url = ""
        self.streams: Streams
        self.tapes: Mapping[Instrument, Tape] = MappingProxyType(
            {_instrument(key): tape for key, tape in instruments.items()}
        )
        self.requests: deque[RequestRecord] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.weights: Mapping[Pool, WeightMeter] = {pool: WeightMeter(options.rules(pool)) for pool in Pool}
        self._archive = Archive(self.tapes)
        self._options = options
        self._clock_ms = clock_ms
        self._dice = random.Random(0)
        self._numbers = count(1)
        self._plan_numbers = count(1)
        self._pages = {instrument: Pages(tape, instrument.market) for instrument, tape in self.tapes.items()}

    @property
    def options(self) -> ExchangeOptions:
        """The behaviour in force. Assign another value to change it for the requests that arrive from now on."""
        return self._options

    @options.setter
    def options(self, options: ExchangeOptions) -> None:
        if options.faults != self._options.faults:
            self._plan_numbers = count(1)
        if options.archive_faults != self._options.archive_faults:
            self._archive.restart_faults()
        self._options = options
        for pool, meter in self.weights.items():
            meter.rules = options.rules(pool)

    def now_ms(self) -> int:
        """The server's clock: the host's plus the skew."""
        return self._clock_ms() + self._options.clock_skew_ms

    def tape(self, instrument: Instrument | str) -> Tape:
        """The tape of an instrument. Raises KeyError if it is not served."""
        return self.tapes[_instrument(instrument)]

    def visible(self, instrument: Instrument | str) -> pl.DataFrame:
        """The instrument's trades that the exchange has and that can be seen now, with SCHEMA."""
        absent = self._options.absent_ids_of(_instrument(instrument))
        return without_absent(self.tape(instrument).visible(self.now_ms()), absent)

    @property
    def archive_requests(self) -> deque[ArchiveRecord]:
        """The log of the archive; its requests cost no weight and are not in ``requests``."""
        return self._archive.requests

    def archive_answer(self, method: str, path: str, query: str) -> Reply:
        """Answer a request to the archive that arrives now, and note it."""
        return self._archive.answer(method, path, query, self.now_ms(), self._options)

    def ban(self, pool: Pool, lasts_s: float) -> None:
        """Ban us from the markets of a pool at once."""
        self.weights[pool].ban(self.now_ms(), round(lasts_s * 1000))

    def latency_s(self) -> float:
        """How long the next answer is to be held back."""
        options = self._options
        return options.latency_s + options.latency_jitter_s * self._dice.random()

    def answer(self, market: Market, endpoint: str, query: str, connection: int = 0) -> Reply:
        """Charge a request that arrives now, answer it and note it. ``connection`` is any number of the client's."""
        now_ms = self.now_ms()
        weight = WEIGHTS[market][endpoint](dict(parse_qsl(query)))
        meter = self.weights[market.pool]
        charged = meter.charge(weight, now_ms)
        if charged.status == OK:
            served = self._served(market, endpoint, query, now_ms, connection)
        else:
            served = _Served(limit_reply(market, meter.rules.weight, charged))
        unanswered = served.reply.delivery in {Fault.RESET, Fault.SILENCE}
        self.requests.append(
            RequestRecord(
                number=next(self._numbers),
                arrived_ms=now_ms,
                market=market,
                endpoint=endpoint,
                query=query,
                status=0 if unanswered else served.reply.status,
                weight=weight,
                used_weight=charged.used_weight,
                rows=served.rows,
                first_id=served.first_id,
                last_id=served.last_id,
                fault=served.fault,
            )
        )
        reply = served.reply
        if served.fault is not Fault.NO_WEIGHT_HEADER and reply.from_exchange:
            reply = replace(reply, headers=reply.headers + self._weight_headers(market, charged.used_weight))
        return hostile_headers(reply, served.fault, len(self.requests))

    def _lag_ms(self, connection: int) -> int:
        """How far behind the replica is that answers this request."""
        options = self._options
        lags_s = options.replica_lags_s
        chosen = random.Random(connection) if options.sticky_replicas else self._dice
        return round((options.rest_lag_s + chosen.choice(lags_s)) * 1000)

    def _weight_headers(self, market: Market, used_weight: int) -> tuple[tuple[bytes, bytes], ...]:
        """The header of the used weight, named for the interval; spot also sends the old name."""
        value = str(used_weight).encode()
        named = (f"x-mbx-used-weight-{self._options.interval.header_suffix}".encode(), value)
        return ((b"x-mbx-used-weight", value), named) if market is Market.SPOT else (named,)

    def _served(self, market: Market, endpoint: str, query: str, now_ms: int, connection: int) -> _Served:
        plan = self._options.faults
        number, fault = 0, None
        if endpoint in plan.endpoints:
            number = next(self._plan_numbers)
            fault = plan.fault_of(number)
        try:
            served = self._right_answer(market, endpoint, query, now_ms, fault, connection)
        except Refusal as refusal:
            return _Served(refusal_reply(refusal))
        return served if fault is None else _with_fault(served, fault, market, number)

    def _right_answer(
        self, market: Market, endpoint: str, query: str, now_ms: int, fault: Fault | None, connection: int
    ) -> _Served:
        match endpoint:
            case "aggTrades":
                return self._trades(market, query, now_ms, fault, connection)
            case "exchangeInfo":
                return _Served(json_reply(exchange_info(market, query, self.tapes, self._options, now_ms)))
            case _:
                view = MarketView(market, self.tapes, now_ms, self.visible)
                return _Served(json_reply(ANSWERS[endpoint](view, parameters(query))))

    def _trades(self, market: Market, query_text: str, now_ms: int, fault: Fault | None, connection: int) -> _Served:
        query = parse_trades_query(market, query_text)
        if self._options.page_cap is not None:
            query = replace(query, limit=min(query.limit, self._options.page_cap))
        instrument = Instrument(market, query.symbol)
        tape = self.tapes.get(instrument)
        if tape is None:
            raise Refusal(-1121, "Invalid symbol.")
        visible_rows = tape.rows_visible(now_ms - self._lag_ms(connection))
        lookback_ms = self._options.lookback_ms(market)
        if lookback_ms is not None:
            refuse_too_old(query, tape, now_ms, lookback_ms)
        rows = present_rows(query, tape, visible_rows, self._options.absent_ids_of(instrument))
        if fault is Fault.LATER_RANGE:
            rows = later_rows(rows, visible_rows)
        reply = Reply(200, self._pages[instrument].page(rows))
        if not len(rows):
            return _Served(reply)
        ids, first, last = (tape.ids, rows[0], rows[-1]) if isinstance(rows, range) else (rows["a"], 0, -1)
        return _Served(reply, len(rows), int(ids[first]), int(ids[last]))


def _with_fault(served: _Served, fault: Fault, market: Market, number: int) -> _Served:
    reply = replacement(fault, market, number) or spoiled(served.reply, fault, number)
    if fault in DELIVERY_FAULTS:
        reply = replace(reply, delivery=fault)
    return replace(served, reply=reply, fault=fault)
