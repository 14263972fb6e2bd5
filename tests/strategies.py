"""What hypothesis draws: id ranges, coverages, tapes of every shape, days, windows, and what is stored of a tape."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from random import Random

from hypothesis import strategies as st

from backfilld.core.ids import IdSet
from backfilld.core.model import MS_PER_DAY, IdRange
from backfilld.core.timespan import StoredSpan, TimeSpan
from tests.fakes import DAY_MS, Tape

SIZES = st.one_of(
    st.sampled_from([0, 1, 999, 1000, 1001, 1999, 2000, 2001, 3000]), st.integers(0, 40), st.integers(1002, 3500)
)
"""How many rows a tape has: the edges of a page, a handful, a few pages."""


@st.composite
def id_ranges(draw: st.DrawFn, max_id: int = 60) -> IdRange:
    """A range of small ids."""
    first_id = draw(st.integers(0, max_id))
    return IdRange(first_id, draw(st.integers(first_id, max_id)))


def coverages(max_id: int = 60) -> st.SearchStrategy[IdSet]:
    """A coverage of small ids."""
    return st.lists(id_ranges(max_id), max_size=8).map(IdSet.of)


def days() -> st.SearchStrategy[date]:
    """A day since the exchange opened."""
    return st.dates(date(2017, 7, 14), date(2099, 12, 30))


def _times(shape: str, rows: int, start_ms: int, random: Random) -> list[int]:
    step = {"dense": (0, 1), "bursty": (0, 0), "sparse": (0, 600_000), "even": (40, 40)}[shape]
    times: list[int] = []
    now = start_ms
    while len(times) < rows:
        burst = random.choice([1, 3, 400, 1200]) if shape == "bursty" else 1
        times += [now] * min(burst, rows - len(times))
        now += random.randint(*step) if shape != "bursty" else random.randint(1, 5000)
    return times


@st.composite
def tapes(draw: st.DrawFn, sizes: st.SearchStrategy[int] = SIZES, start_ms: int = DAY_MS) -> Tape:
    """A tape: dense, bursty with more than a page in one ms, sparse over days, or even; ids from 0 or any."""
    shape = draw(st.sampled_from(["dense", "bursty", "sparse", "even"]))
    random = Random(draw(st.integers(0, 2**16)))
    first_id = draw(st.sampled_from([0, 1, 3_000_000_000]))
    times = _times(shape, draw(sizes), start_ms - draw(st.sampled_from([0, 20_000])), random)
    markers = {first_id + n for n in range(len(times)) if draw_rarely(random)}
    return Tape.of(first_id, times, markers=markers)


def draw_rarely(random: Random) -> bool:
    """True about once in 200."""
    return random.random() < 0.005


@st.composite
def windows(draw: st.DrawFn, tape: Tape) -> TimeSpan:
    """A window that begins and ends anywhere about the tape; open in half of all cases."""
    low, high = (tape.times[0], tape.times[-1]) if len(tape) else (DAY_MS, DAY_MS + 1000)
    anywhere = st.integers(low - 2, high + 2)
    start_ms = draw(st.sampled_from([low, low - 10_000, high]) | anywhere)
    if draw(st.booleans()):
        return TimeSpan(start_ms)
    return TimeSpan(start_ms, max(start_ms + 1, draw(st.sampled_from([high, high + 1, high + 5000, low]) | anywhere)))


@dataclass(frozen=True)
class Stored:
    """What is stored of a tape: spans, and whether the lowest id is known to be the window's first."""

    spans: tuple[StoredSpan, ...]
    first_is_proven: bool

    @property
    def ids(self) -> set[int]:
        """Every id stored."""
        return {i for span in self.spans for i in range(span.ids.first_id, span.ids.last_id + 1)}


def span_of(tape: Tape, start: int, stop: int) -> StoredSpan:
    """The rows start to stop of a tape without absent ids, as a span."""
    return StoredSpan(IdRange(tape.ids[start], tape.ids[stop - 1]), tape.times[start], tape.times[stop - 1])


def reaching(spans: Sequence[StoredSpan], window: TimeSpan) -> tuple[StoredSpan, ...]:
    """The spans with a trade in the window, or at least one on either side of it."""
    return tuple(
        span
        for span in spans
        if span.last_ms >= window.start_ms and (window.stop_ms is None or span.first_ms < window.stop_ms)
    )


@st.composite
def stored_of(draw: st.DrawFn, tape: Tape, window: TimeSpan) -> Stored:
    """Spans with holes between them anywhere, as far as they reach into the window; proven where that is true."""
    count = draw(st.integers(0, 8)) if len(tape) > 1 else 0
    cuts = sorted(draw(st.sets(st.integers(0, len(tape)), max_size=count))) if count else []
    spans = [span_of(tape, start, stop) for start, stop in zip(cuts[::2], cuts[1::2], strict=False)]
    kept = reaching(spans, window)
    wanted = tape.ids_in(window)
    provable = bool(kept and wanted) and kept[0].ids.first_id == min(wanted)
    return Stored(kept, provable and draw(st.booleans()))


def midnights(rows: int) -> st.SearchStrategy[list[int]]:
    """Ascending times of a few days, many near a midnight."""
    near = st.integers(-3, 3)
    moments = st.builds(lambda day, off: DAY_MS + day * MS_PER_DAY + off, st.integers(0, 3), near)
    anywhere = st.integers(DAY_MS, DAY_MS + 3 * MS_PER_DAY)
    return st.lists(moments | anywhere, min_size=1, max_size=rows).map(sorted)
