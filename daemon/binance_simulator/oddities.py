"""What a true history of trades may look like against all expectation: jumps of ids, ids that begin again, time that
goes back.

Owns these changes of a trade frame; make a tape of the result with ``Tape.from_frame``. They are no faults: whoever
has every row of the frame has everything.
"""

import random

import polars as pl


def with_jumps(frame: pl.DataFrame, jumps: int, longest: int, seed: int = 0) -> pl.DataFrame:
    """The same trades, with up to ``longest`` ids left out at so many places; none before the first trade."""
    dice = random.Random(seed)
    places = sorted(dice.sample(range(1, frame.height), min(jumps, frame.height - 1)))
    lengths = [dice.randint(1, longest) for _ in places]
    row = pl.int_range(pl.len())
    left_out = pl.sum_horizontal(pl.lit(0), *((row >= at) * length for at, length in zip(places, lengths, strict=True)))
    return frame.with_columns(a=pl.col("a") + left_out)


def restarted(frame: pl.DataFrame, at_ms: int, first_id: int = 0) -> pl.DataFrame:
    """The same trades, with ids that begin again at ``first_id`` with the first trade from ``at_ms`` on.

    Make the tape with ``restarts=True``: it answers ``fromId`` from the new ids only.
    """
    is_new = pl.col("T") >= at_ms
    ids = pl.when(is_new).then(is_new.cum_sum() - 1 + first_id).otherwise("a")
    return frame.with_columns(a=ids.cast(pl.Int64))


def with_inversion(frame: pl.DataFrame, at_ms: int, rows: int = 1) -> pl.DataFrame:
    """The same trades, but time goes back at an instant, such as midnight: the last trade before it has the first
    ms from it on, and the ``rows`` trades after it the last ms before it."""
    stands = int((frame["T"] < at_ms).sum())
    row = pl.int_range(pl.len())
    after = row.is_between(stands, stands + rows, closed="left")
    time = pl.when(row == stands - 1).then(at_ms).when(after).then(at_ms - 1).otherwise("T")
    return frame.with_columns(T=time.cast(pl.Int64))
