"""What is odd in a day is counted the same however its rows come in pieces, and with or without markers among them."""

import random
from collections import Counter
from itertools import pairwise

import polars as pl
import pytest

from backfilld.core.day.anomalies import Anomalies
from backfilld.core.frame import SCHEMA

MARKER = (0.0, 0.0, -1, -1)


def row(a: int, time_ms: int, kind: str) -> tuple[object, ...]:
    """A trade of one fill, or something odd."""
    p, q, f, last = MARKER if kind == "marker" else (1.5, 0.0 if kind == "zero" else 2.0, a, a + (kind == "break"))
    return (time_ms, a, p, q, f, last, True, True)


def rows_of(seed: int) -> list[tuple[object, ...]]:
    chance, a, rows = random.Random(seed), 100, []
    odd = ["plain"] * 20 + (["marker", "zero", "break"] if seed % 2 else ["break"])
    for number in range(200):
        a += chance.choice([1] * 30 + [5])
        rows.append(row(a, 1_700_000_000_000 + 10 * number - chance.choice([0] * 20 + [25]), chance.choice(odd)))
    return rows


def counted(rows: list[tuple[object, ...]]) -> dict[str, int]:
    """The definitions, row by row."""
    found = Counter(["markers" if each[2:6] == MARKER else "zero_quantities" for each in rows if each[3] == 0])
    for before, after in pairwise(rows):
        found["time_inversions"] += after[0] < before[0]  # type: ignore[operator]
        follows = after[1] == before[1] + 1 and MARKER not in (before[2:6], after[2:6])  # type: ignore[operator]
        found["fl_breaks"] += follows and after[4] != before[5] + 1  # type: ignore[operator]
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("seed", range(12))
def test_counts_follow_the_definitions_however_the_rows_are_cut(seed: int) -> None:
    rows, anomalies, at = rows_of(seed), Anomalies(), 0
    while at < len(rows):
        step = 1 + (seed * 37 + at) % 50
        anomalies.add(pl.DataFrame(rows[at : at + step], schema=SCHEMA, orient="row"))
        at += step
    assert anomalies.counts == counted(rows)
