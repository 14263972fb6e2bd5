"""How large and how often everything is measured: for a full run, and for a quick look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows and rounds of all benchmarks. Each round measures every contender once, in turn."""

    rounds: int
    process_rounds: int
    cached_rows: tuple[int, ...]
    new_rows: int
    day_rows: int
    gap_rows: int
    latency_s: float
    pipeline_rows: tuple[int, ...]
    ceiling_windows: int
    live_seconds: float
    history_days: int
    history_instruments: int
    instruments: tuple[int, ...]
    live_day_rows: int


FULL = Sizes(
    rounds=9,
    process_rounds=5,
    cached_rows=(100_000, 1_000_000),
    new_rows=15_000,
    day_rows=96_000,
    gap_rows=48,
    latency_s=0.1,
    pipeline_rows=(100_000, 1_000_000, 5_000_000),
    ceiling_windows=3,
    live_seconds=30.0,
    history_days=1_094,
    history_instruments=10,
    instruments=(10, 100, 500, 1_000),
    live_day_rows=1_000_000,
)

QUICK = Sizes(
    rounds=3,
    process_rounds=1,
    cached_rows=(20_000, 100_000),
    new_rows=2_000,
    day_rows=12_000,
    gap_rows=48,
    latency_s=0.02,
    pipeline_rows=(20_000, 100_000, 500_000),
    ceiling_windows=2,
    live_seconds=8.0,
    history_days=60,
    history_instruments=2,
    instruments=(2, 10),
    live_day_rows=30_000,
)
