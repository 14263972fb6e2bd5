"""The page in parts: the HTML inside each element that changes, by its id.

Owns the words of the page. The template has the places; ``/events`` sends the parts that differ from those before, so
that the page says the same with script and without.
"""

from collections.abc import Sequence

from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.monitor.freshness import stale
from backfilld.core.monitor.history import WeightWindow
from backfilld.core.monitor.today import Point
from backfilld.services.stored_days import MARKS
from backfilld.serving.monitor import drawing
from backfilld.serving.monitor.markup import Markup, cells, joined, row, tag
from backfilld.serving.monitor.view import View
from backfilld.serving.monitor.words import NOTHING, clock, iso_ms, minute, moment, price, span

MAX_LAG_S = 60.0
"""Behind by more than this the page says so; ``status --check --max-lag`` and ``/readyz?max_lag`` take another."""

Parts = dict[str, Markup]


def parts(view: View) -> Parts:
    """Every part, by id."""
    found: dict[str, Markup] = {}
    for of_section in (
        _of_head,
        _of_live,
        _of_coverage,
        _of_today,
        _of_weight,
        _of_rate,
        _of_holes,
        _of_log,
        _of_users,
    ):
        found |= of_section(view)
    return found


def drawings(view: View) -> Parts:
    """The charts as they are drawn without script, by id; with it, the points of the series are sent instead."""
    points = [] if view.today is None else view.today.points
    found = {
        "price-drawn": _price_drawn(view, points),
        "delta-drawn": _delta_drawn(points),
        "rate-drawn": _rate_drawn(view),
    }
    return found | {f"weight-{pool}-drawn": _weight_drawn(view, pool) for pool in Pool}


def row_id(instrument: Instrument) -> str:
    """The id of an instrument's row."""
    return f"row-{instrument.market}-{instrument.symbol}"


def verdict(view: View) -> tuple[str, str]:
    """How it stands, as ``good``, ``busy`` or ``bad``, and in a sentence that changes only when that does."""
    if view.trouble is not None:
        return "bad", f"The disk fails, and is tried again: {view.trouble}"
    paused = [f"{pool}: {each.reason}" for pool, each in view.weight.items() if each.paused_ms > 0]
    if paused:
        return "bad", f"The exchange has paused us ({', '.join(paused)})"
    behind = list(stale(view.now_ms, MAX_LAG_S, {str(name): each for name, each in view.freshness.items()}))
    if behind:
        more = f", and {len(behind) - 1} more" if len(behind) > 1 else ""
        return "busy", f"Not up to date: {behind[0].split(',')[0]}{more}"
    attached, every = view.live.attached, len(view.instruments)
    if attached == every:
        return "good", "Live and complete" if every == 1 else f"Live and complete: all {every} instruments"
    return "good", f"Complete: {attached} of {every} instruments live, the others polled"


def _of_head(view: View) -> Parts:
    mood, sentence = verdict(view)
    return {"verdict": tag("span", sentence, class_=mood), "now": Markup(f"{moment(view.now_ms)} UTC")}


# -- is it live


def _of_live(view: View) -> Parts:
    return {row_id(each): _live_cells(view, each) for each in view.instruments}


def live_rows(view: View) -> Markup:
    """The rows of the instruments, with their cells."""
    rows = (
        tag("tr", _live_cells(view, each), id=row_id(each), aria_current="true" if each == view.chosen else None)
        for each in view.instruments
    )
    return joined(*rows)


def _live_cells(view: View, instrument: Instrument) -> Markup:
    live, fresh = view.live.instruments.get(instrument), view.freshness.get(instrument)
    behind_s = None if fresh is None or fresh.complete_ms is None else max(0.0, view.now_ms - fresh.complete_ms) / 1000
    if behind_s is None:
        kind, state = "busy", "filling"
    elif live is not None and live.hole_since_s is not None:
        kind, state = "busy", "healing a hole"
    elif live is not None and live.is_attached:
        kind, state = "good", "live"
    else:
        kind, state = ("good", "polled") if behind_s <= MAX_LAG_S else ("bad", "behind")
    last = None if live is None else live.last
    link = tag("a", str(instrument), href=f"/?instrument={instrument}#price")
    return cells(
        link,
        tag("span", state, class_=f"state {kind}"),
        NOTHING if behind_s is None else span(behind_s),
        NOTHING if last is None else price(last.p),
        NOTHING if last is None else tag("time", clock(last.T), datetime=iso_ms(last.T)),
        NOTHING if live is None else f"{live.trades:,}",
    )


# -- coverage


def _of_coverage(view: View) -> Parts:
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


# -- today


def _of_today(view: View) -> Parts:
    points = [] if view.today is None else view.today.points
    if view.today is None or not points:
        nothing = Markup("No trade of today is here yet.")
        return {"price-sum": nothing, "profile": Markup(""), "profile-span": Markup(""), "price-rows": Markup("")}
    bins = view.today.bins
    today, last = view.today, points[-1]
    return {
        "price-sum": _figures(
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


def _price_drawn(view: View, points: Sequence[Point]) -> Markup:
    if not points:
        return Markup("")
    last = points[-1]
    label = f"{view.chosen} today: price {price(last.price)}, VWAP {last.vwap:,.8g}"
    curves = [drawing.Line("price", [each.price for each in points]), drawing.Line("vwap", [e.vwap for e in points])]
    return drawing.lines(label, [each.start_ms for each in points], curves)


def _delta_drawn(points: Sequence[Point]) -> Markup:
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


def _figures(*figures: tuple[str, str]) -> Markup:
    """Names and figures, as a list that wraps."""
    return joined(*(tag("div", tag("dt", name), tag("dd", value)) for name, value in figures))


# -- the last hour


def _of_weight(view: View) -> Parts:
    found: dict[str, Markup] = {}
    for pool in Pool:
        windows, now = view.history.weight.get(pool, ()), view.weight.get(pool)
        if now is None:
            found[f"weight-{pool}-sum"] = Markup("Nothing has been asked of this pool.")
        else:
            found[f"weight-{pool}-sum"] = _figures(
                ("own", f"{now.own:,}"),
                ("bots", f"{now.clients:,}"),
                ("others", f"{now.others:,}"),
                ("limit", f"{now.limit:,} per {now.interval}"),
            )
        found[f"weight-{pool}-rows"] = joined(*map(_weight_row, reversed(windows)))
    return found


def _weight_drawn(view: View, pool: Pool) -> Markup:
    windows, now = view.history.weight.get(pool, ()), view.weight.get(pool)
    stacks = [{"own": each.own, "bots": each.bots, "others": each.others} for each in windows]
    label = f"used weight of {pool} by minute, most {max((each.used for each in windows), default=0):,}"
    return drawing.bars(label, stacks, now.limit if now else 0)


def _weight_row(window: WeightWindow) -> Markup:
    figures = (window.own, window.bots, window.others, window.limit)
    return row(minute(window.start_ms), *(f"{each:,}" for each in figures))


def _of_rate(view: View) -> Parts:
    rates = view.history.rates
    values = [each.trades_per_s for each in rates]
    now = f"{values[-1]:,.1f}" if values else NOTHING
    minutes: dict[str, list[float]] = {}
    for each in rates:
        minutes.setdefault(minute(each.stop_ms), []).append(each.trades_per_s)
    means = ((name, sum(of) / len(of), max(of)) for name, of in reversed(minutes.items()))
    return {
        "rate-sum": _figures(("now", now), ("most", f"{max(values):,.1f}" if values else NOTHING)),
        "rate-rows": joined(*(row(name, f"{mean:,.1f}", f"{most:,.1f}") for name, mean, most in means)),
    }


def _rate_drawn(view: View) -> Markup:
    rates = view.history.rates
    curve = drawing.Line("rate", [each.trades_per_s for each in rates])
    return drawing.lines("trades a second", [each.stop_ms for each in rates], [curve], from_zero=True)


def _of_holes(view: View) -> Parts:
    live = view.live
    rows = (
        row(
            moment(each.ended_ms),
            str(each.instrument),
            f"{each.ids.first_id} to {each.ids.last_id}",
            f"{len(each.ids):,}",
            span(each.seconds),
            "healed" if each.is_healed else tag("span", "given up", class_="bad"),
        )
        for each in view.history.holes
    )
    return {
        "holes-sum": _figures(
            ("found", f"{live.holes_found:,}"),
            ("healed", f"{live.holes_healed:,}"),
            ("given up", f"{live.holes_given_up:,}"),
            ("stood on average", _mean_of_holes(view)),
        ),
        "holes-rows": joined(*rows) or _nothing(6, "No hole so far."),
    }


def _mean_of_holes(view: View) -> str:
    seconds = view.live.heal_seconds
    return span(seconds.total / seconds.count) if seconds.count else NOTHING


# -- the log, and who uses the endpoint


def _of_log(view: View) -> Parts:
    rows = (
        row(each.timestamp[:19].replace("T", " "), tag("span", each.level, class_=each.level), each.event, each.about)
        for each in view.warnings
    )
    return {"log-rows": joined(*rows) or _nothing(4, "No warning so far.")}


def _of_users(view: View) -> Parts:
    counts = view.endpoint
    routes: dict[str, dict[str, int]] = {}
    for (route, status, source), count in sorted(counts.answers.items()):
        of = routes.setdefault(route, {})
        of[source] = of.get(source, 0) + count
        of["failed"] = of.get("failed", 0) + count * (status >= 400)  # noqa: PLR2004 - where HTTP's errors begin
    names = ("cache", "live", "forwarded", "coalesced", "own", "refused", "failed")
    rows = (row(route, *(f"{of.get(name, 0):,}" for name in names)) for route, of in routes.items())
    return {
        "users-sum": _figures(
            ("answers", f"{counts.answers.total():,}"),
            ("subscribers", f"{view.subscribers:,}"),
            ("frames sent", f"{counts.frames:,}"),
            ("subscribers dropped", f"{counts.dropped.total():,}"),
        ),
        "users-rows": joined(*rows) or _nothing(8, "Nobody has asked so far."),
    }


def _nothing(columns: int, text: str) -> Markup:
    return tag("tr", tag("td", text, colspan=columns))
