"""Figures as the page writes them. Owns their form: UTC, thousands apart, durations in the unit that fits."""

from datetime import UTC, datetime

NOTHING = "-"
"""Where there is no figure: a dash, never a zero that was not measured."""


def clock(time_ms: float) -> str:
    """The time of day in UTC."""
    return f"{_moment(time_ms):%H:%M:%S}"


def minute(time_ms: float) -> str:
    """The same to the minute."""
    return f"{_moment(time_ms):%H:%M}"


def moment(time_ms: float) -> str:
    """Day and time in UTC."""
    return f"{_moment(time_ms):%Y-%m-%d %H:%M:%S}"


def iso_ms(time_ms: float) -> str:
    """ISO 8601 in UTC, to the millisecond, as programs read it."""
    return _moment(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span(seconds: float) -> str:
    """A duration in the unit that fits."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:  # noqa: PLR2004 - two minutes are the first that read better as such
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if hours < 2 else f"{hours:.1f} h"  # noqa: PLR2004 - as above


def roughly(seconds: float) -> str:
    """The same in whole seconds: a figure that stands in hundreds of rows changes seldom."""
    if seconds < 1:
        return "< 1 s"
    return f"{seconds:.0f} s" if seconds < 120 else span(seconds)  # noqa: PLR2004 - as above


def price(value: float | None) -> str:
    """A price with the digits that it has."""
    return NOTHING if value is None else f"{value:,.10g}"


def _moment(time_ms: float) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, tz=UTC)
