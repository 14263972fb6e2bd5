"""Chooses the source of a past day: the exchange's archive, or its REST API.

The archive costs no request weight, but a download of the whole day. REST has every id, and costs weight by the page.
So a day with few missing trades comes from REST, any other past day from the archive, and the rest from REST again.
"""

from collections.abc import Collection, Mapping
from datetime import date

from backfilld.core.day.certificate import Certificate
from backfilld.core.day.start import ONE_DAY
from backfilld.core.markets import RULES
from backfilld.core.model import MS_PER_DAY, PAGE_ROWS, Market, day_of, day_start_ms, day_stop_ms, days_from
from backfilld.core.timespan import TimeSpan

WORTH_A_DOWNLOAD = 20 * PAGE_ROWS
"""From this many missing trades of a day on, the archive is cheaper: 20 pages cost 80 of spot's 6000 weight a minute,
and 400 of the futures' 2400."""


def archive_days(
    window: TimeSpan, now_ms: int, records: Mapping[date, Certificate], refused: Collection[date] = ()
) -> tuple[date, ...]:
    """The days of the window to take from the archive, ascending: whole days that are over, lack more than
    WORTH_A_DOWNLOAD trades, and are not in ``refused``."""
    return tuple(
        day
        for day in whole_past_days(window, now_ms)
        if day not in refused and expected_missing(records.get(day), day) > WORTH_A_DOWNLOAD
    )


def seam_days(
    window: TimeSpan, now_ms: int, market: Market, records: Mapping[date, Certificate], *, unanswered: bool = False
) -> tuple[date, ...]:
    """The days next to the window that must come from the archive, because only it can prove the window's ends: REST no
    longer answers for them (the futures' lookback), or answers nothing for the symbol (``unanswered``). Days that are
    stored, and ends that are proven, are left out."""
    lookback_ms = RULES[market].lookback_ms
    too_old_ms = now_ms if unanswered else -1 if lookback_ms is None else now_ms - lookback_ms
    seams = []
    if window.start_ms % MS_PER_DAY == 0 and window.start_ms < too_old_ms:
        first = records.get(day_of(window.start_ms))
        if first is None or not first.opened:
            seams.append(day_of(window.start_ms - 1))
    stop_ms = window.stop_ms
    if stop_ms is not None and stop_ms % MS_PER_DAY == 0 and stop_ms + MS_PER_DAY <= min(too_old_ms, now_ms):
        last = records.get(day_of(stop_ms - 1))
        if last is None or not last.closed:
            seams.append(day_of(stop_ms))
    return tuple(day for day in seams if day not in records)


def whole_past_days(window: TimeSpan, now_ms: int) -> list[date]:
    """The UTC days that lie wholly in the window and are over, ascending."""
    stop_ms = min(now_ms, window.stop_ms or now_ms)
    return days_from(day_of(window.start_ms + MS_PER_DAY - 1), day_of(stop_ms) - ONE_DAY)


def within_reach(start_ms: int, now_ms: int, market: Market) -> int:
    """Where to ask from, after the exchange refused to answer for ``start_ms``: a later midnight."""
    next_ms = day_stop_ms(day_of(start_ms))
    documented_ms = now_ms - (RULES[market].lookback_ms or 0)
    return max(next_ms, day_stop_ms(day_of(documented_ms)))


def expected_missing(record: Certificate | None, day: date) -> float:
    """An estimate of how many trades of a past day are missing: the known holes, plus the uncovered time at both ends
    at the pace of the stored trades. Infinite if nothing is stored."""
    if record is None:
        return float("inf")
    if record.sealed:
        return 0.0
    first_ms, last_ms = record.spans[0].first_ms, record.spans[-1].last_ms
    open_ms = 0 if record.opened else max(0, first_ms - day_start_ms(day))
    open_ms += 0 if record.closed else max(0, day_stop_ms(day) - last_ms)
    holes = sum(map(len, record.holes))
    return holes + (record.rows + holes) * open_ms / max(1, last_ms - first_ms)
