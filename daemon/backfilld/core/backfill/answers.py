"""Is this answer what was asked for?

Owns the checks between a decoded page and anything that trusts it. The exchange, or whatever stands before it, may
answer 200 with another range or with nonsense; nothing of such a page is merged. An answer that passes over ids is
true as far as it goes: its rows are kept, and only the ids it skipped are in doubt.
"""

from collections.abc import Sequence
from math import isfinite

import polars as pl

from backfilld.core.backfill.adjoining import edge_of
from backfilld.core.backfill.agreement import ALONE, LEAD, say_the_same
from backfilld.core.backfill.early import gone_back, too_early
from backfilld.core.backfill.neighbours import AGREEING, Misfit, is_tied, misfit
from backfilld.core.backfill.questions import Again, At, Before, Found, Newest, Page, Query, Since, Tail, brings_rows
from backfilld.core.day.division import first_row_from
from backfilld.core.frame import empty_trades
from backfilld.core.ids import IdSet
from backfilld.core.model import EARLIEST_MS, LATEST_MS, MAX_ID, IdRange
from backfilld.errors import UnexpectedAnswer

MOST_GROWTH = 10**9
"""No answer alone may jump over more ids: the busiest symbol took nine years for four times as many."""


def check_page(trades: pl.DataFrame, query: Query) -> None:
    """Accept a page as the answer to ``query`` or raise UnexpectedAnswer saying what is wrong.

    ``trades`` has the columns of SCHEMA in the order of the answer. No rows are a valid answer to every question but
    one for ids that are known to exist.
    """
    if trades.is_empty():
        _check_emptiness(query)
        return
    if trades.height > query.rows:
        raise UnexpectedAnswer(f"{trades.height} rows where {query.rows} were asked for")
    _check_start(trades, query)
    _check_ids(trades["a"], query)
    _check_values(trades)


class AnswerCheck:
    """Checks the answers to one question, until one is accepted: rows that fit no trade beside the ids, and times that
    no clock has reached, need several that agree. Who ``is_wary`` asks until rows have a trade that is known already,
    or AGREEING more answers say the same than say anything else. ``is_confirmed`` if the one that was accepted does not
    stand alone: ``agreeing`` said the same, and those ``against`` it something else."""

    def __init__(self, query: Query, *, is_wary: bool = False) -> None:
        self.is_confirmed = False
        self.agreeing = 1
        self._query = query
        self.is_wary = is_wary or (isinstance(query, Newest) and query.needs_agreement)
        self._doubtful: list[pl.DataFrame] = []
        self._refused = 0

    @property
    def against(self) -> int:
        """How many answers said something else than the one that was accepted."""
        return self._refused + len(self._doubtful) - (self.agreeing if self._doubtful and self.is_confirmed else 0)

    def __call__(self, trades: pl.DataFrame, clocks_ms: Sequence[int] = ()) -> None:
        """Accept an answer as :func:`check_page` does, or raise UnexpectedAnswer. ``clocks_ms`` are the times that
        clocks show, as far as any is known. Where two agree, no page of much later trades is ever believed, unless it
        has one that is stored."""
        query = self._query
        try:
            check_page(trades, query)
        except UnexpectedAnswer:
            self._refused += 1
            raise
        if trades.is_empty():
            if self.is_wary and not isinstance(query, Page | Tail):
                self._require_agreement(trades, ALONE)
            return
        known = query.beside if isinstance(query, Page | Tail | At) else ()
        stored = [each for each in known if each.is_row]
        found = too_early(trades, clocks_ms, [each.at_ms for each in stored if each.is_sure])
        asked_id = _asked_id(query)
        if asked_id is not None:
            beside = misfit(trades, asked_id, known)
            found = None if beside is None and is_tied(trades, stored) else found or beside
        found = found or gone_back(trades)
        self.agreeing = 1
        if found is None and not self.is_wary:
            return
        sure = [each for each in known if each.is_row or each.is_sure]
        if found is not None or not (isinstance(query, Page | Tail) and is_tied(trades, sure)):
            self._require_agreement(trades, found or ALONE)
        self.is_confirmed = True

    def _require_agreement(self, trades: pl.DataFrame, why: Misfit) -> None:
        """Raise until enough answers say the same, and more than could not be used."""
        self._doubtful.append(trades)
        is_certain = why.is_certain and isinstance(self._query, Page | Tail | At)
        agreeing = sum(say_the_same(each, trades, self._query) for each in self._doubtful)
        others = len(self._doubtful) - agreeing
        self.agreeing = agreeing
        if is_certain or agreeing < others + why.answers or agreeing < others + self._refused + self._lead:
            is_proof = is_certain and not self._refused and len(self._doubtful) > AGREEING
            raise UnexpectedAnswer(why.reason, contradicts=why.against if is_proof else None, is_alone=not is_certain)

    @property
    def _lead(self) -> int:
        """How many more answers must say it than could not be used."""
        if not self.is_wary:
            return 1
        return AGREEING if isinstance(self._query, Page | Tail) else LEAD


def cut(trades: pl.DataFrame, query: Query, stop_ms: int | None) -> tuple[pl.DataFrame, Found]:
    """Split an accepted page into the rows to keep and what they are.

    The rows from the first trade at or after ``stop_ms`` on lie beyond the window and are cut off. An answer that only
    locates keeps no row (:func:`~backfilld.core.backfill.questions.brings_rows`).
    """
    is_cut = stop_ms is not None and not isinstance(query, Before | At | Newest)
    beyond = first_row_from(trades["T"], stop_ms) if is_cut and stop_ms is not None else None
    kept = trades if beyond is None else trades.head(beyond)
    if isinstance(query, Page | Tail) and query.overlaps and trades["a"].head(1).to_list() == [query.first_id]:
        return kept[1:], _found(kept[1:], query, trades, beyond)
    return kept if brings_rows(query) else empty_trades(), _found(kept, query, trades, beyond)


def _found(kept: pl.DataFrame, query: Query, trades: pl.DataFrame, beyond: int | None) -> Found:
    beyond_id = None if beyond is None else trades["a"][beyond]
    skipped = _skipped(trades["a"], query, beyond_id)
    if kept.is_empty():
        return Found(None, 0, 0, trades.height, beyond_id, skipped=skipped)
    ids, times = kept["a"], kept["T"]
    is_marker = kept["p"][-1] == 0 and kept["f"][-1] == -1
    lull_ms = _longest_lull_ms(times) if isinstance(query, Newest) and times.len() > 1 else 0
    return Found(
        IdRange(ids[0], ids[-1]),
        times[0],
        times[-1],
        trades.height,
        beyond_id,
        is_marker,
        skipped,
        lull_ms,
        (edge_of(kept, 0), edge_of(kept, -1)),
    )


def _longest_lull_ms(times: pl.Series) -> int:
    """The longest time between two rows; a time that lies behind an earlier one makes none."""
    return int(times.cum_max().diff().max() or 0)  # type: ignore[arg-type]


def _skipped(ids: pl.Series, query: Query, beyond_id: int | None) -> tuple[IdRange, ...]:
    """The ids that the answer passed over, up to the first one beyond the window."""
    if ids.is_empty():
        return ()
    asked_id = _asked_id(query)
    first_id = ids[0] if asked_id is None else asked_id
    last_id = ids[-1] if beyond_id is None else beyond_id
    if last_id - first_id + 1 == ids.len():
        return ()
    return IdSet.of_ids(ids).missing(IdRange(first_id, last_id))


def _asked_id(query: Query) -> int | None:
    match query:
        case Page() | Tail():
            return query.first_id
        case At(trade_id):
            return trade_id
        case _:
            return None


def _check_emptiness(query: Query) -> None:
    match query:
        case Page(ids):
            raise UnexpectedAnswer(f"no rows for ids {ids.first_id} to {ids.last_id}")
        case Tail(first_id, known_id=known_id) if known_id is not None and known_id >= first_id:
            raise UnexpectedAnswer(f"no rows from id {first_id} on, though id {known_id} exists")
        case At(trade_id):
            exists = trade_id + (not isinstance(query, Again))
            raise UnexpectedAnswer(f"no rows from id {trade_id} on, though id {exists} exists")
        case _:
            return


def _check_start(trades: pl.DataFrame, query: Query) -> None:
    first_id, first_ms = trades["a"][0], trades["T"][0]
    match query:
        case Newest():
            _check_newest(trades["a"][-1], trades["T"].max(), query)  # type: ignore[arg-type]
        case Page() | Tail():
            _check_first_id(first_id, trades.height, query)
        case Again(trade_id) if first_id != trade_id:
            raise UnexpectedAnswer(f"rows from id {first_id} on, though id {trade_id} came before")
        case At(trade_id) if not trade_id <= first_id <= trade_id + 1:
            reason = f"rows from id {first_id} where {trade_id} was asked for, though id {trade_id + 1} exists"
            raise UnexpectedAnswer(reason)
        case Since(start_ms) if first_ms < start_ms:
            raise UnexpectedAnswer(f"rows from T {first_ms} where {start_ms} was asked for")
        case Before(stop_ms) if first_ms >= stop_ms:
            raise UnexpectedAnswer(f"a row of T {first_ms} where one before {stop_ms} was asked for")
        case _:
            return


def _check_newest(newest_id: int, latest_ms: int, query: Newest) -> None:
    if newest_id < query.at_least_id:
        reason = f"the newest id is {newest_id}, below id {query.at_least_id} that exists: another sequence of ids"
        raise UnexpectedAnswer(reason)
    if query.stop_ms is not None and latest_ms >= query.stop_ms:
        raise UnexpectedAnswer(f"a row of T {latest_ms} where one before {query.stop_ms} was asked for")


def _check_overlap(first_id: int, rows: int, query: Page) -> None:
    if first_id != query.first_id:
        raise UnexpectedAnswer(f"rows from id {first_id} on, though id {query.first_id} exists")
    if rows == 1:
        exists = query.ids.last_id if query.next_id is None else query.next_id
        raise UnexpectedAnswer(f"no rows behind id {first_id}, though id {exists} exists")


def _check_first_id(first_id: int, rows: int, query: Page | Tail) -> None:
    """The first row has the id asked for or, where the exchange passes over ids, a later one."""
    asked_id = query.first_id
    known_id = query.next_id if isinstance(query, Page) else query.known_id
    if isinstance(query, Page) and query.overlaps:
        _check_overlap(first_id, rows, query)
    if isinstance(query, Tail) and query.overlaps and rows == 1 and known_id is not None and known_id > first_id:
        raise UnexpectedAnswer(f"no rows behind id {first_id}, though id {known_id} exists")
    if first_id < asked_id:
        raise UnexpectedAnswer(f"rows from id {first_id} where {asked_id} was asked for")
    if known_id is not None and known_id >= asked_id and first_id > known_id:
        raise UnexpectedAnswer(f"rows from id {first_id} where {asked_id} was asked for, though id {known_id} exists")


def _check_ids(ids: pl.Series, query: Query) -> None:
    """Ids ascend. One that is far from the one before it is not believed on the word of one answer."""
    asked_id = _asked_id(query)
    first_id = ids[0] if asked_id is None else asked_id
    if ids[-1] > MAX_ID:
        raise UnexpectedAnswer(f"id {ids[-1]}, above {MAX_ID}, which no exchange counts to")
    # Not ids[1:]: that takes longer than the rest.
    steps = ids.slice(1) - ids.slice(0, ids.len() - 1)
    if ids[-1] - first_id + 1 == ids.len() and (steps == 1).all():
        return
    if not (steps > 0).all():
        at = int((steps <= 0).arg_max() or 0)
        raise UnexpectedAnswer(f"id {ids[at + 1]} follows id {ids[at]}: the ids of a page must ascend")
    before, after = _longest_jump(ids, first_id)
    if after - before > MOST_GROWTH:
        reason = f"id {after} follows id {before}: a jump of more than {MOST_GROWTH:,} ids"
        raise UnexpectedAnswer(reason, absent=(before + 1, after - 1))


def _longest_jump(ids: pl.Series, first_id: int) -> tuple[int, int]:
    """The ids before and after the longest jump, which may lie before the first row."""
    jumps = [(ids[0] - first_id + 1, first_id - 1, ids[0])]
    if ids.len() > 1:
        at = int((ids.slice(1) - ids.slice(0, ids.len() - 1)).arg_max() or 0)
        jumps.append((ids[at + 1] - ids[at], ids[at], ids[at + 1]))
    _, before, after = max(jumps)
    return before, after


def _is_plain(trades: pl.DataFrame) -> bool:
    """Whether all values keep their rules and no row is a marker: true of nearly every page, and cheap to find out.

    Nothing here wakes polars' thread pool, which costs more than the comparisons.
    """
    a, p, q, f, last, t = (trades[name] for name in ("a", "p", "q", "f", "l", "T"))
    lowest = ((a, 0), (t, EARLIEST_MS), (q, 0), (f, 0))
    return bool(
        all(column.min() >= least for column, least in lowest)  # type: ignore[operator]
        and t.max() <= LATEST_MS  # type: ignore[operator]
        and p.min() > 0  # type: ignore[operator]
        and isfinite(p.sum())
        and isfinite(q.sum())
        and (f <= last).all()
    )


def _check_values(trades: pl.DataFrame) -> None:
    if _is_plain(trades):
        return
    a, p, q, f, last, t = (pl.col(name) for name in ("a", "p", "q", "f", "l", "T"))
    marker = (p == 0) & (q == 0) & (f == -1) & (last == -1)
    rules = {
        "a negative aggregate trade id": a < 0,
        f"T outside {EARLIEST_MS} to {LATEST_MS} ms": ~t.is_between(EARLIEST_MS, LATEST_MS),
        "a price that is not a positive number": ~(p.is_finite() & ((p > 0) | marker)),
        "a quantity that is not a number of 0 or more": ~(q.is_finite() & (q >= 0)),
        "trade ids f and l that are not a range": ~(((f >= 0) & (f <= last)) | marker),
    }
    found = trades.select(rule.any().alias(name) for name, rule in rules.items()).row(0, named=True)
    broken = [name for name, is_broken in found.items() if is_broken]
    if broken:
        raise UnexpectedAnswer(f"a row with {broken[0]}")
