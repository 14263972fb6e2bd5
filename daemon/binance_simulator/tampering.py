"""Faults put into answers: what replaces an answer, and what spoils its rows.

Owns the wrong answers themselves. Must not decide when they are due, nor deliver them.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl

from binance_simulator.faults import Fault
from binance_simulator.hostile import hostile_reply
from binance_simulator.model import INT64_MAX, Market
from binance_simulator.replies import Reply, error_reply, html_reply

DELIVERY_FAULTS = frozenset((Fault.CUT_BODY, Fault.RESET, Fault.SILENCE, Fault.DRIP, Fault.ENDLESS_BODY))
_DISTRIBUTION_LIMIT = "503 ERROR: This distribution exceeded the limit on requests per second."
_OVERLOADED = "Server is currently overloaded with other requests. Please try again in a few minutes."
_LOCATION = "Service unavailable from a restricted location according to 'b. Eligibility' in the terms of service."
_TIMEOUT = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."

_Row = dict[str, Any]


def replacement(fault: Fault, market: Market, number: int) -> Reply | None:
    """The answer that stands in for the right one, or None for a fault of another group."""
    if fault is Fault.ERROR_1007:
        return error_reply(504 if market is Market.SPOT else 408, -1007, _TIMEOUT)
    if fault is Fault.OBJECT_BODY:
        return Reply(200, b'{"code":0}' if number % 2 else b"{}")
    if fault is Fault.GARBAGE_BODY:
        return Reply(200, b'[{"a":1,"p":"0.0\x00\xff\xfe' + random.Random(number).randbytes(200))
    return _REPLACEMENTS.get(fault) or hostile_reply(fault, number)


def spoiled(reply: Reply, fault: Fault, number: int) -> Reply:
    """The answer with its rows spoiled; unchanged for a fault of another group, or for a page without rows."""
    spoil = _SPOILERS.get(fault)
    if spoil is None or not reply.body.startswith(b"["):
        return reply
    rows = msgspec.json.decode(reply.body, type=list[dict[str, Any]])
    if not rows:
        return reply
    return replace(reply, body=msgspec.json.encode(spoil(rows, number)))


def later_rows(rows: range | pl.DataFrame, visible_rows: int) -> range | pl.DataFrame:
    """The rows of half a page further on, as many as there are."""
    if isinstance(rows, pl.DataFrame):
        return rows.tail(rows.height // 2)
    shift = max(1, len(rows) // 2)
    return range(min(rows.start + shift, visible_rows), min(rows.stop + shift, visible_rows))


def _shuffled(rows: list[_Row], number: int) -> list[_Row]:
    """Another order than the right one, whatever the dice say."""
    random.Random(number).shuffle(rows)
    in_order = all(before["a"] < after["a"] for before, after in pairwise(rows))
    return rows[::-1] if in_order else rows


def _doubled(rows: list[_Row], _number: int) -> list[_Row]:
    middle = len(rows) // 2
    return rows[: middle + 1] + rows[middle:]


def _with_hole(rows: list[_Row], _number: int) -> list[_Row]:
    """Without a row that has neighbours on both sides; what has none keeps its rows."""
    middle = len(rows) // 2
    return rows[:middle] + rows[middle + 1 :] if 0 < middle < len(rows) - 1 else rows


def _without_time(row: _Row) -> None:
    del row["T"]


def _in_middle(change: Callable[[_Row], None]) -> Callable[[list[_Row], int], list[_Row]]:
    """Change the middle row only."""

    def spoil(rows: list[_Row], _number: int) -> list[_Row]:
        change(rows[len(rows) // 2])
        return rows

    return spoil


_REPLACEMENTS = {
    Fault.STATUS_500: error_reply(500, -1000, "An unknown error occurred while processing the request."),
    Fault.STATUS_502_HTML: html_reply(502, "502 Bad Gateway", "nginx"),
    Fault.STATUS_503_HTML: html_reply(503, "ERROR: The request could not be satisfied", _DISTRIBUTION_LIMIT),
    Fault.STATUS_403_HTML: html_reply(403, "ERROR: The request could not be satisfied", "403 ERROR: Request blocked."),
    Fault.STATUS_451: error_reply(451, 0, _LOCATION),
    Fault.ERROR_1008: error_reply(503, -1008, _OVERLOADED),
    Fault.STATUS_200_HTML: html_reply(200, "Welcome", "Please accept the terms of this network."),
}

_SPOILERS: dict[Fault, Callable[[list[_Row], int], list[_Row]]] = {
    Fault.SHUFFLED: _shuffled,
    Fault.DOUBLED_ROW: _doubled,
    Fault.HOLE: _with_hole,
    Fault.SHORT_PAGE: lambda rows, _number: rows[: len(rows) // 2],
    Fault.MISSING_FIELD: _in_middle(_without_time),
    Fault.NULL_FIELD: _in_middle(lambda row: row.update(p=None)),
    Fault.BEYOND_INT64: _in_middle(lambda row: row.update(l=INT64_MAX + 1)),
    Fault.NAN_PRICE: _in_middle(lambda row: row.update(p="NaN")),
    Fault.WRONG_TYPE: _in_middle(lambda row: row.update(a=str(row["a"]))),
}
