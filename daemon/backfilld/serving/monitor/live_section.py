"""Whether it is live: the verdict over all, and a row for each instrument.

Owns the words of the first section of the page.
"""

from backfilld.core.model import Instrument
from backfilld.core.monitor.freshness import stale
from backfilld.serving.monitor.markup import Markup, Parts, cells, joined, tag
from backfilld.serving.monitor.view import View
from backfilld.serving.monitor.words import NOTHING, clock, iso_ms, moment, price, span

MAX_LAG_S = 60.0
"""Behind by more than this the page says so; ``status --check --max-lag`` and ``/readyz?max_lag`` take another."""


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


def of_head(view: View) -> Parts:
    """The verdict and the time of the page."""
    mood, sentence = verdict(view)
    return {"verdict": tag("span", sentence, class_=mood), "now": Markup(f"{moment(view.now_ms)} UTC")}


def of_live(view: View) -> Parts:
    """The cells of each instrument."""
    return {row_id(each): _cells(view, each) for each in view.instruments}


def live_rows(view: View) -> Markup:
    """The rows of the instruments, with their cells."""
    rows = (
        tag("tr", _cells(view, each), id=row_id(each), aria_current="true" if each == view.chosen else None)
        for each in view.instruments
    )
    return joined(*rows)


def _cells(view: View, instrument: Instrument) -> Markup:
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
