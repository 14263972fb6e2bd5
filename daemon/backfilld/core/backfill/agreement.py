"""Whether two answers to one question say the same."""

import polars as pl

from backfilld.core.backfill.adjoining import can_follow, is_same, named
from backfilld.core.backfill.neighbours import Misfit
from backfilld.core.backfill.questions import Newest, Query

ALONE = Misfit("too few answers say so", is_certain=False)

LEAD = 4
"""How many more answers must name the same trade than anything else, once some were wrong."""

MEANWHILE = 10_000
"""More ids than any symbol gets between two answers to one question."""


def say_the_same(one: pl.DataFrame, other: pl.DataFrame, query: Query) -> bool:
    """Whether two answers have rows of the same ids, and these are equal. The newest trade may be another one."""
    if one.is_empty() or other.is_empty():
        return one.is_empty() and other.is_empty()
    if isinstance(query, Newest):
        lower, upper = sorted((named(one, -1), named(other, -1)), key=lambda each: each.trade_id)
        if lower.trade_id == upper.trade_id:
            return is_same(lower, upper)
        return upper.trade_id - lower.trade_id <= MEANWHILE and can_follow(lower, upper)
    first_id, last_id = max(one["a"][0], other["a"][0]), min(one["a"][-1], other["a"][-1])
    a = pl.col("a").is_between(first_id, last_id)
    ours, theirs = one.filter(a), other.filter(a)
    return not ours.is_empty() and ours.equals(theirs)
