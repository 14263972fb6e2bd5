"""Is this answer what was asked for?

Owns the checks between a decoded page and anything that trusts it. The exchange, or whatever stands before it, may
answer 200 with another range, with holes or with nonsense; nothing of such a page is merged.
"""

from math import isfinite

import polars as pl

from backfilld.core.backfill.questions import Before, Found, Later, Newest, Page, Query, Since, Tail
from backfilld.core.model import EARLIEST_MS, LATEST_MS, IdRange, empty_trades
from backfilld.errors import UnexpectedAnswer


def check_page(trades: pl.DataFrame, query: Query) -> None:
    """Accept a page as the answer to ``query`` or raise UnexpectedAnswer saying what is wrong.

    ``trades`` has the columns of SCHEMA in the order of the answer. No rows are a valid answer to every question but a
    :class:`Page`, whose ids are known to exist.
    """
    if trades.is_empty():
        if isinstance(query, Page):
            raise UnexpectedAnswer(
                f"no rows for ids {query.ids.first_id} to {query.ids.last_id}",
                absent=(query.ids.first_id, query.ids.last_id),
                may_lag=True,
            )
        return
    if trades.height > query.rows:
        raise UnexpectedAnswer(f"{trades.height} rows where {query.rows} were asked for")
    _check_start(trades, query)
    _check_ids(trades["a"])
    _check_values(trades)


def cut(trades: pl.DataFrame, query: Query, stop_ms: int | None) -> tuple[pl.DataFrame, Found]:
    """Split an accepted page into the rows to keep and what they are.

    The rows of :class:`Since` and :class:`Tail` from the first trade at or after ``stop_ms`` on lie beyond the window
    and are cut off. An answer that only locates keeps no row: :class:`Before`, :class:`Later`, and a :class:`Newest`
    that is held or older than it is wanted.
    """
    if _only_locates(trades, query):
        return empty_trades(), _found(trades, trades.height, None)
    if stop_ms is None or not isinstance(query, Since | Tail):
        return trades, _found(trades, trades.height, None)
    beyond = (trades["T"] >= stop_ms).arg_true()
    if beyond.is_empty():
        return trades, _found(trades, trades.height, None)
    kept = trades.head(beyond[0])
    return kept, _found(kept, trades.height, trades["a"][beyond[0]])


def _only_locates(trades: pl.DataFrame, query: Query) -> bool:
    if isinstance(query, Newest) and trades.height:
        return query.at_least_id in trades["a"] or trades["T"][0] < query.since_ms
    return isinstance(query, Before | Later)


def _found(trades: pl.DataFrame, rows: int, beyond_id: int | None) -> Found:
    if trades.is_empty():
        return Found(ids=None, first_ms=0, last_ms=0, rows=rows, beyond_id=beyond_id)
    ids, times = trades["a"], trades["T"]
    is_marker = trades["p"][-1] == 0 and trades["f"][-1] == -1
    return Found(IdRange(ids[0], ids[-1]), times[0], times[-1], rows, beyond_id, is_marker)


def _check_start(trades: pl.DataFrame, query: Query) -> None:
    first_id, first_ms = trades["a"][0], trades["T"][0]
    match query:
        case Page(ids) if first_id != ids.first_id:
            absent = (ids.first_id, min(first_id - 1, ids.last_id)) if first_id > ids.first_id else None
            raise UnexpectedAnswer(f"rows from id {first_id} where {ids.first_id} was asked for", absent=absent)
        case Tail(asked_id) if first_id != asked_id:
            absent = (asked_id, first_id - 1) if first_id > asked_id else None
            raise UnexpectedAnswer(f"rows from id {first_id} where {asked_id} was asked for", absent=absent)
        case Since(start_ms) if first_ms < start_ms:
            raise UnexpectedAnswer(f"rows from T {first_ms} where {start_ms} was asked for")
        case Since(stop_ms=stop_ms) if stop_ms is not None and first_ms >= stop_ms:
            raise UnexpectedAnswer(f"a row of T {first_ms} where one before {stop_ms} was asked for")
        case Before(stop_ms) if first_ms >= stop_ms:
            raise UnexpectedAnswer(f"a row of T {first_ms} where one before {stop_ms} was asked for")
        case Newest(at_least_id) if first_id < at_least_id:
            reason = f"the newest id is {first_id}, below id {at_least_id} that is held: another sequence of ids"
            raise UnexpectedAnswer(reason)
        case Newest(stop_ms=stop_ms) if stop_ms is not None and first_ms >= stop_ms:
            raise UnexpectedAnswer(f"a row of T {first_ms} where one before {stop_ms} was asked for")
        case Later(after_ms, held_id) if first_ms < after_ms or first_id <= held_id:
            reason = f"id {first_id} at T {first_ms}, though id {held_id} is held of before: another sequence of ids"
            raise UnexpectedAnswer(reason)
        case Page() | Tail() | Since() | Before() | Newest() | Later():
            return


def _check_ids(ids: pl.Series) -> None:
    if (ids[1:] - ids[:-1] == 1).all():
        return
    broken = (ids.diff().drop_nulls() != 1).arg_max() or 0
    before, after = ids[broken], ids[broken + 1]
    absent = (before + 1, after - 1) if after > before + 1 else None
    raise UnexpectedAnswer(f"id {after} follows id {before}: the ids of a page must ascend by one", absent=absent)


def _is_plain(trades: pl.DataFrame) -> bool:
    """Whether all values keep their rules and no row is a marker: true of nearly every page, and told at once.

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
        "trade ids f and l that are no range": ~(((f >= 0) & (f <= last)) | marker),
    }
    found = trades.select(rule.any().alias(name) for name, rule in rules.items()).row(0, named=True)
    broken = [name for name, is_broken in found.items() if is_broken]
    if broken:
        raise UnexpectedAnswer(f"a row with {broken[0]}")
