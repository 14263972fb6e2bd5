"""A past day from the published zip to a sealed day file, against the floor: the same bytes unzipped, read once by
Arrow's columnar CSV reader and written once as Parquet with the same encoding, nothing checked and nothing proven.

Each contender is a process of its own, ``python -m tests.benchmarks.archive_day WHICH ZIP DAY FIRST_ID LAST_ID``, which
warms up on a first round and tells the time of a second one; the peak memory is the process's.
"""

import json
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from backfilld.core.day.start import ONE_DAY, DayStart
from backfilld.core.model import IdRange, day_of
from backfilld.store.archive_import.archive_take import take_archive
from backfilld.store.manager import BackfillCacheManager
from tests.benchmarks.figures import Figure
from tests.benchmarks.measure import Run, in_turn, median_of, run_process
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tapes import tape_of_today

TITLE = "A published day"
MOST_OF_THE_FLOOR = 1 / 0.8
"""At least 80 % of the floor's throughput."""
MOST_GROWTH_MB = 100
ROW_GROUP_ROWS = 131_072
UNREAD_SHA256 = "0" * 64
"""It is the download's to take: the zip is on disk."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """Wall time and CPU of one day, and the peak of the process that did it."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure(sizes: Sizes) -> list[Figure]:
    """Throughput and peak memory, by the length of the day."""
    costs = {rows: _costs(rows, sizes.process_rounds) for rows in sizes.pipeline_rows[1:]}
    return [*_throughput(costs), *_memory(costs)]


def _costs(rows: int, rounds: int) -> tuple[Sequence[_Cost], Sequence[_Cost]]:
    """Ours and the floor's, taken in turn."""
    with tempfile.TemporaryDirectory(prefix="backfilld-bench-") as directory:
        path = Path(directory) / "day.zip"
        day, ids = _publish(path, rows)
        ours, floor = in_turn(
            rounds, *[lambda which=which: _cost(which, path, day, ids) for which in ("ours", "floor")]
        )
        return ours, floor


def _cost(which: str, path: Path, day: date, ids: IdRange) -> _Cost:
    known = [str(path), str(day), str(ids.first_id), str(ids.last_id)]
    run: Run = run_process(["-m", "tests.benchmarks.archive_day", which, *known])
    cost = json.loads(run.stdout)
    return _Cost(cost["wall_s"], cost["cpu_s"], run.peak_mb)


def _throughput(costs: dict[int, tuple[Sequence[_Cost], Sequence[_Cost]]]) -> list[Figure]:
    figures = []
    for rows, (ours, floor) in costs.items():
        for what, figure in (("wall time", lambda cost: cost.wall_s), ("CPU", lambda cost: cost.cpu_s)):
            mine, theirs = (median_of(each, figure) / rows * 1e6 for each in (ours, floor))
            goal = MOST_OF_THE_FLOOR if what == "wall time" else None
            name = f"{rows:,} trades: zip to sealed day file, {what} a trade"
            against = "unzip, one CSV read, one Parquet write, unchecked"
            figures.append(Figure(name, mine, "µs", against, theirs, most_ratio=goal))
    return figures


def _memory(costs: dict[int, tuple[Sequence[_Cost], Sequence[_Cost]]]) -> list[Figure]:
    peaks = {rows: max(cost.peak_mb for cost in ours) for rows, (ours, _) in costs.items()}
    less, more = list(peaks)[-2:]
    growth = Figure(
        f"growth of the peak from {less:,} to {more:,} trades", peaks[more] - peaks[less], "MB", most=MOST_GROWTH_MB
    )
    return [*(Figure(f"peak memory, {rows:,} trades", peak, "MB") for rows, peak in peaks.items()), growth]


def _publish(path: Path, rows: int) -> tuple[date, IdRange]:
    """Write a spot day as the archive has it since 2025: microseconds, eight columns, no header."""
    tape = tape_of_today(rows)
    text = [pl.format("{}000", pl.col(name)).alias(name) for name in ("p", "q")]
    flags = [pl.when(pl.col(name)).then(pl.lit("True")).otherwise(pl.lit("False")).alias(name) for name in ("m", "M")]
    lines = tape.select("a", *text, "f", "l", pl.col("T") * 1000 + pl.col("a") % 1000, *flags)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("day.csv", lines.write_csv(include_header=False))
    return day_of(tape["T"][0]), IdRange(tape["a"][0], tape["a"][-1])


# -- the contenders


def _ours(path: Path, day: date, ids: IdRange, directory: Path) -> None:
    """All of it: every check, the digest, the certificate, fsync and rename."""
    manager = BackfillCacheManager(directory / "market=spot" / "symbol=BTCUSDT")
    starts = {DayStart(day, ids.first_id), DayStart(day + ONE_DAY, ids.last_id + 1)}
    taken = take_archive(manager, path, day, UNREAD_SHA256, starts)
    if not taken.record.sealed or taken.findings.defects or taken.record.rows != len(ids):
        raise RuntimeError("the day is not what was published")


def _floor(path: Path, _day: date, _ids: IdRange, directory: Path) -> None:
    names = ["a", "p", "q", "f", "l", "T", "m", "M"]
    types = dict.fromkeys(names, pa.int64()) | dict.fromkeys("pq", pa.float64()) | dict.fromkeys("mM", pa.bool_())
    with zipfile.ZipFile(path) as archive, archive.open("day.csv") as stream:
        reader = pc.open_csv(
            stream,
            pc.ReadOptions(column_names=names, block_size=1 << 22),
            convert_options=pc.ConvertOptions(column_types=types),
        )
        with pq.ParquetWriter(
            directory / "floor.parquet",
            reader.schema,
            compression="zstd",
            compression_level=3,
            use_dictionary=["p", "q"],  # type: ignore[arg-type]  # the stubs know only the boolean
            column_encoding=dict.fromkeys(("T", "a", "f", "l"), "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
            store_schema=False,
        ) as writer:
            for batch in reader:
                writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)


def main(which: str, path: str, day: str, first_id: str, last_id: str) -> None:
    """Do it twice; print what the second time took."""
    contenders: dict[str, Callable[[Path, date, IdRange, Path], None]] = {"ours": _ours, "floor": _floor}
    ids = IdRange(int(first_id), int(last_id))
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="backfilld-bench-") as directory:
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            contenders[which](Path(path), date.fromisoformat(day), ids, Path(directory))
            cost = {"wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - began_cpu_s}
    sys.stdout.write(json.dumps(cost))


if __name__ == "__main__":
    main(*sys.argv[1:])
