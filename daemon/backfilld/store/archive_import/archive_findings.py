"""What is wrong, or only noteworthy, with the trades of a published day: found in passing, named by ids.

Owns which rows of an ordered day are given on and which are left out. Must not know of zips and CSVs.
"""

from dataclasses import dataclass, field
from datetime import date

import polars as pl

from backfilld.core.day.anomalies import MARKER
from backfilld.core.day.division import OUT_OF_ORDER_MS
from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.model import INT64_MAX, IdRange, day_start_ms, day_stop_ms

MOST_CONFLICTS = 100_000
"""Of more conflicts than these only the ids are kept."""

MOST_STRAYS = 10_000
"""The most rows near a midnight that are offered to the days beside."""

ANY_ID = IdRange(0, INT64_MAX)

_IS_SUSPECT = ((pl.col("p") == 0) | (pl.col("q") == 0) | (pl.col("f") < 0) | (pl.col("f") > pl.col("l"))) & ~MARKER


@dataclass(frozen=True, slots=True)
class Finding:
    """How often something was found, and the ids concerned as inclusive ranges, ascending and disjoint."""

    count: int = 0
    ranges: tuple[IdRange, ...] = ()

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True, slots=True)
class Findings:
    """All that reading a published day brought to light.

    Defects: ``doubled`` (identical rows, collapsed), ``conflicting`` (ids with two different rows: the first is given),
    ``disordered`` (rows directly after one of a higher id), ``holes`` (ids between the first and the last that no row
    given has), ``suspect`` (rows that cannot be trades: quantity or price 0, or no range of trade ids), ``outside``
    (rows of another day, left out).

    ``given`` rows were given on. ``conflicts`` are both versions of the first conflicting rows; ``kept`` says which was
    given.
    """

    given: int = 0
    doubled: Finding = Finding()
    conflicting: Finding = Finding()
    disordered: Finding = Finding()
    holes: Finding = Finding()
    suspect: Finding = Finding()
    outside: Finding = Finding()
    conflicts: pl.DataFrame = field(default_factory=lambda: empty_trades().with_columns(kept=True), compare=False)

    @property
    def defects(self) -> dict[str, Finding]:
        """The defects that were found, by name."""
        names = ("doubled", "conflicting", "disordered", "holes", "suspect", "outside")
        return {name: finding for name in names if (finding := getattr(self, name))}


class IdTally:
    """Counts ids and keeps them as ranges, however many: 16 bytes a range."""

    def __init__(self) -> None:
        self.count = 0
        self._pieces: list[pl.DataFrame] = []

    def add(self, ids: pl.Series) -> None:
        """Count ids that ascend, repeats allowed."""
        if ids.is_empty():
            return
        self.count += ids.len()
        is_first = ids.diff().fill_null(2) > 1
        is_last = is_first.shift(-1, fill_value=True)
        self._pieces.append(pl.DataFrame({"first": ids.filter(is_first), "last": ids.filter(is_last)}))

    def add_between(self, before: pl.Series, after: pl.Series) -> None:
        """Count every id between each of ``before`` and its partner of ``after``."""
        piece = pl.DataFrame({"first": before + 1, "last": after - 1})
        self.count += int((after - before - 1).sum())
        self._pieces.append(piece)

    def finding(self) -> Finding:
        """What was counted."""
        if not self._pieces:
            return Finding()
        ordered = pl.concat(self._pieces).sort("first")
        highest_before = ordered["last"].cum_max().shift(1).fill_null(-2)
        is_first = ordered["first"] > highest_before + 1
        joined = ordered.group_by(is_first.cum_sum().alias("range"), maintain_order=True).agg(
            pl.col("first").min(), pl.col("last").max()
        )
        return Finding(self.count, tuple(IdRange(first, last) for _, first, last in joined.iter_rows()))


class Audit:
    """Looks at the rows in ascending order of ``a``, and leaves out those that cannot be trades: their ids are holes,
    to be asked for elsewhere."""

    def __init__(self) -> None:
        self.given = 0
        self._last_id: int | None = None
        self.holes, self.suspect = IdTally(), IdTally()

    def take(self, trades: pl.DataFrame) -> pl.DataFrame:
        """The next rows, at least one; return those to give on."""
        trades = self._look_at_values(trades)
        if trades.is_empty():
            return trades
        self._look_for_holes(trades["a"])
        self.given += trades.height
        return trades

    def findings(self, seen: "Intake", repeats: "Repeats") -> Findings:
        """All of it, once every row was taken."""
        return Findings(
            given=self.given,
            doubled=repeats.doubled.finding(),
            conflicting=repeats.conflicting.finding(),
            disordered=seen.disordered.finding(),
            holes=self.holes.finding(),
            suspect=self.suspect.finding(),
            outside=seen.outside.finding(),
            conflicts=repeats.conflicts,
        )

    def _look_at_values(self, trades: pl.DataFrame) -> pl.DataFrame:
        p, q, f, last = (trades[name] for name in ("p", "q", "f", "l"))
        if p.min() > 0 and q.min() > 0 and f.min() >= 0 and (f <= last).all():  # type: ignore[operator]
            return trades
        suspect = trades.filter(_IS_SUSPECT)["a"]
        self.suspect.add(suspect)
        return trades if suspect.is_empty() else trades.filter(~_IS_SUSPECT)

    def _look_for_holes(self, ids: pl.Series) -> None:
        """Between each id and the one before it, which may have been the last of the rows before."""
        if self._last_id is not None:
            self._look_between(pl.Series("a", [self._last_id, ids[0]], dtype=ids.dtype))
        self._look_between(ids)
        self._last_id = ids[-1]

    def _look_between(self, ids: pl.Series) -> None:
        if ids[-1] - ids[0] + 1 != ids.len():
            has_hole = ids[1:] - ids[:-1] > 1
            self.holes.add_between(ids[:-1].filter(has_hole), ids[1:].filter(has_hole))


class Intake:
    """Looks at the rows as they come, in the order of the file, and leaves out those of other days: by their time, and
    by their id, where it is not ``within`` those that the day can have."""

    def __init__(self, day: date, within: IdRange, behind_id: int = INT64_MAX) -> None:
        self._within = within
        self._behind_id = behind_id
        self._start_ms, self._stop_ms = day_start_ms(day), day_stop_ms(day)
        self._last_id = -1
        self.outside, self.disordered = IdTally(), IdTally()
        self.strays = empty_trades()
        """Rows left out for their ids that lie near a midnight: a day beside may have their range."""

    def admitted(self, trades: pl.DataFrame) -> pl.DataFrame:
        """The rows of the day. Markers keep the times they have, on whatever day those lie."""
        trades = self._of_the_day(trades)
        if trades.height:
            self._look_at_order(trades["a"])
        return trades

    def _of_the_day(self, trades: pl.DataFrame) -> pl.DataFrame:
        if trades.is_empty() or self._are_all_of_the_day(trades["T"], trades["a"]):
            return trades
        by_time = pl.col("T").is_between(self._start_ms, self._stop_ms, closed="left") | MARKER
        is_inside = trades.select(by_time).to_series()
        is_within = trades["a"].is_between(self._within.first_id, self._within.last_id)
        is_within &= (trades["a"] < self._behind_id) | (trades["T"] < self._stop_ms - OUT_OF_ORDER_MS)
        self.outside.add(trades.filter(~(is_inside & is_within))["a"].sort())
        if len(self.strays) < MOST_STRAYS:
            near = trades["T"].is_between(self._start_ms + OUT_OF_ORDER_MS, self._stop_ms - OUT_OF_ORDER_MS)
            self.strays = pl.concat([self.strays, trades.filter(is_inside & ~is_within & ~near)]).head(MOST_STRAYS)
        return trades.filter(is_inside & is_within)

    def _are_all_of_the_day(self, times: pl.Series, ids: pl.Series) -> bool:
        return bool(
            times.min() >= self._start_ms  # type: ignore[operator]
            and times.max() < self._stop_ms  # type: ignore[operator]
            and ids.min() >= self._within.first_id  # type: ignore[operator]
            and ids.max() <= self._within.last_id  # type: ignore[operator]
            and ids.max() < self._behind_id  # type: ignore[operator]
        )

    def _look_at_order(self, ids: pl.Series) -> None:
        before, self._last_id = self._last_id, ids[-1]
        if ids[0] < before or (ids[1:] < ids[:-1]).any():
            self.disordered.add(ids.filter(ids < ids.shift(1, fill_value=before)).sort())


class Repeats:
    """What was found of rows that share an id."""

    def __init__(self) -> None:
        self.doubled, self.conflicting = IdTally(), IdTally()
        self.conflicts = Findings().conflicts

    def add(self, repeats: pl.DataFrame) -> None:
        """Rows whose id came before, ascending in id, beside the row that came first (see :func:`once`)."""
        if repeats.is_empty():
            return
        self.doubled.add(repeats.filter("is_same")["a"])
        differing = repeats.filter(~pl.col("is_same"))
        self.conflicting.add(differing["a"])
        room = MOST_CONFLICTS - self.conflicts.height // 2
        if differing.height and room > 0:
            self.conflicts = pl.concat([self.conflicts, _both_versions(differing.head(room))])


def once(trades: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows in order of their ids, the first one given of each, and the others.

    The others stand beside the row of their id that was kept (``kept_T`` and so on), with ``is_same`` saying whether
    they are identical.
    """
    ordered = trades.sort("a", maintain_order=True)
    is_repeat = ordered["a"].diff().eq(0).fill_null(value=False)
    kept, others = ordered.filter(~is_repeat), ordered.filter(is_repeat)
    return kept, _beside(others, kept)


def _beside(others: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
    values = [name for name in SCHEMA if name != "a"]
    beside = others.join(
        kept.rename({name: f"kept_{name}" for name in values}), on="a", how="left", maintain_order="left"
    )
    same = pl.all_horizontal(pl.col(name) == pl.col(f"kept_{name}") for name in values)
    return beside.with_columns(is_same=same)


def _both_versions(differing: pl.DataFrame) -> pl.DataFrame:
    names = {f"kept_{name}": name for name in SCHEMA if name != "a"}
    kept = differing.select("a", *names).rename(names).unique("a", maintain_order=True)
    versions = [kept.select(list(SCHEMA)).with_columns(kept=True)]
    versions += [differing.select(list(SCHEMA)).with_columns(kept=False)]
    return pl.concat(versions).sort("a", maintain_order=True)
