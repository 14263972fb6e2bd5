"""What is stored, and today's price: the coverage calendar, and the figures and charts of the day.

Owns the words of these two sections of the page.
"""

from collections.abc import Sequence

from backfilld.core.monitor.today import Point
from backfilld.services.stored_days import MARKS
from backfilld.serving.monitor import drawing
from backfilld.serving.monitor.markup import Markup, Parts, figure_list, joined, row, tag
from backfilld.serving.monitor.view import View
from backfilld.serving.monitor.words import minute, price


def of_coverage(view: View) -> Parts:
    """The calendar of the chosen instrument, and its table by months."""
    days = (view.coverage or {}).get(view.chosen)
    if not days:
        text = "The day files have not been read yet." if view.coverage is None else "No day is stored yet."
        return {"calendar": tag("p", text), "calendar-rows": Markup("")}
    marks = {day: status.mark for day, status in days.items()}
    months: dict[str, list[str]] = {}
    for day, mark in sorted(marks.items(), reverse=True):
        months.setdefault(f"{day:%Y-%m}", []).append(mark)
    counts = ", ".join(f"{list(marks.values()).count(mark)} {mark}" for mark in MARKS if mark in marks.values())
    rows = (row(month, *(str(of.count(mark)) for mark in MARKS)) for month, of in months.items())
    return {
        "calendar": drawing.calendar(f"{view.chosen}: {counts}", marks),
        "calendar-rows": joined(*rows),
        "calendar-sum": Markup(f"{counts}; {sum(each.trades for each in days.values()):,} trades"),
    }


def of_today(view: View) -> Parts:
    """Today's figures of the chosen instrument, its profile, and a table by hours."""
    points = [] if view.today is None else view.today.points
    if view.today is None or not points:
        nothing = Markup("No trade of today is here yet.")
        return {"price-sum": nothing, "profile": Markup(""), "profile-span": Markup(""), "price-rows": Markup("")}
    bins = view.today.bins
    today, last = view.today, points[-1]
    return {
        "price-sum": figure_list(
            ("price", price(last.price)),
            ("VWAP", f"{last.vwap:,.8g}"),
            ("POC", price(today.poc)),
            ("cumulative delta", f"{last.delta:+,.6g}"),
            ("trades", f"{today.trades:,}"),
            ("missing", f"{today.missing:,}"),
        ),
        "profile": drawing.profile(f"volume by price, most at {price(today.poc)}", bins),
        "profile-span": joined(f"{price(bins[0].low)} to {price(bins[-1].high)}"),
        "price-rows": joined(*(_price_row(each) for each in _hourly(points))),
    }


def price_drawn(view: View, points: Sequence[Point]) -> Markup:
    """Price and VWAP as a picture."""
    if not points:
        return Markup("")
    last = points[-1]
    label = f"{view.chosen} today: price {price(last.price)}, VWAP {last.vwap:,.8g}"
    curves = [drawing.Line("price", [each.price for each in points]), drawing.Line("vwap", [e.vwap for e in points])]
    return drawing.lines(label, [each.start_ms for each in points], curves)


def delta_drawn(points: Sequence[Point]) -> Markup:
    """Cumulative delta as a picture."""
    if not points:
        return Markup("")
    curve = drawing.Line("delta", [each.delta for each in points])
    return drawing.lines(f"cumulative delta {points[-1].delta:+,.6g}", [each.start_ms for each in points], [curve])


def _hourly(points: Sequence[Point]) -> list[Point]:
    """The last point of each hour, the newest first."""
    hours = {each.start_ms // 3_600_000: each for each in points}
    return list(reversed(hours.values()))


def _price_row(point: Point) -> Markup:
    return row(minute(point.start_ms), price(point.price), f"{point.vwap:,.8g}", f"{point.delta:+,.6g}")
