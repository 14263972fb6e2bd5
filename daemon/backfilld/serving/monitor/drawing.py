"""Charts as SVG, drawn by the server: what the page shows without script. Colours and widths are the style sheet's.

Owns geometry. The drawings stretch to their place, so they hold no text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from backfilld.core.monitor.today import Bin
from backfilld.serving.monitor.markup import Markup, tag

WIDTH, HEIGHT = 1000, 200
MONTHS = 24
"""The newest months that the calendar draws; the table beside it has all of them."""

_CELL, _GAP, _LABEL = 10, 2, 62


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: the class that colours it, and its values; None breaks it."""

    kind: str
    values: Sequence[float | None]


def lines(label: str, xs: Sequence[float], curves: Sequence[Line], *, from_zero: bool = False) -> Markup:
    """Curves over the same ``xs``, ascending."""
    known = [value for curve in curves for value in curve.values if value is not None]
    low, high = _bounds(known, from_zero=from_zero)
    left, right = (xs[0], xs[-1]) if xs else (0.0, 1.0)

    def points(curve: Line) -> str:
        pairs = ((x, y) for x, y in zip(xs, curve.values, strict=True) if y is not None)
        scale_x, scale_y = WIDTH / ((right - left) or 1), HEIGHT / ((high - low) or 1)
        return " ".join(f"{(x - left) * scale_x:.1f},{HEIGHT - (y - low) * scale_y:.1f}" for x, y in pairs)

    drawn = (tag("polyline", class_=curve.kind, points=points(curve)) for curve in curves)
    return _picture(label, *drawn)


def bars(label: str, stacks: Sequence[Mapping[str, float]], limit: float) -> Markup:
    """A bar for each stack, its parts from the bottom up by the class that colours them, and a line at ``limit``."""
    high = max([limit, *(sum(stack.values()) for stack in stacks)], default=0.0) or 1.0
    wide = WIDTH / max(1, len(stacks))
    drawn: list[Markup] = []
    for place, stack in enumerate(stacks):
        bottom = float(HEIGHT)
        for kind, value in stack.items():
            tall = value * HEIGHT / high
            bottom -= tall
            if tall:
                box = {"x": f"{place * wide:.1f}", "y": f"{bottom:.1f}"}
                drawn.append(tag("rect", class_=kind, **box, width=f"{wide * 0.8:.1f}", height=f"{tall:.1f}"))
    if limit:
        y = f"{HEIGHT - limit * HEIGHT / high:.1f}"
        drawn.append(tag("line", class_="limit", x1=0, x2=WIDTH, y1=y, y2=y))
    return _picture(label, *drawn)


def profile(label: str, bins: Sequence[Bin]) -> Markup:
    """The volume by price, the highest price on top; the bin of the point of control stands out."""
    most = max((each.volume for each in bins), default=0.0) or 1.0
    tall = HEIGHT / max(1, len(bins))
    drawn = [
        tag(
            "rect",
            class_="poc" if each.is_poc else "bin",
            x=0,
            y=f"{HEIGHT - (place + 1) * tall:.1f}",
            width=f"{each.volume * WIDTH / most:.1f}",
            height=f"{tall * 0.85:.2f}",
        )
        for place, each in enumerate(bins)
    ]
    return _picture(label, *drawn)


def calendar(label: str, marks: Mapping[date, str]) -> Markup:
    """A row for each of the newest months, a square for each day."""
    months = sorted({day.replace(day=1) for day in marks}, reverse=True)[:MONTHS]
    step = _CELL + _GAP
    drawn: list[Markup] = []
    for line, month in enumerate(months):
        drawn.append(tag("text", f"{month:%Y-%m}", x=0, y=line * step + _CELL - 1))
        for day, mark in sorted(marks.items()):
            if day.replace(day=1) == month:
                place = {"x": _LABEL + (day.day - 1) * step, "y": line * step, "width": _CELL, "height": _CELL}
                drawn.append(tag("rect", tag("title", f"{day} {mark}"), class_=mark, **place, rx=2))
    size = f"0 0 {_LABEL + 31 * step} {max(1, len(months)) * step}"
    return tag("svg", *drawn, class_="calendar", viewBox=size, role="img", aria_label=label)


def _bounds(values: Sequence[float], *, from_zero: bool) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (min(0.0, low) if from_zero else low), high


def _picture(label: str, *drawn: Markup) -> Markup:
    size = f"0 0 {WIDTH} {HEIGHT}"
    return tag("svg", *drawn, viewBox=size, preserveAspectRatio="none", role="img", aria_label=label)
