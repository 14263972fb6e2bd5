"""Whether it is live: one sentence for all, and a row for each instrument.

Owns the words of the first section of the page.
"""

from backfilld.core.model import Instrument
from backfilld.serving.monitor.markup import Markup, Parts, cells, joined, tag
from backfilld.serving.monitor.view import View
from backfilld.serving.monitor.words import NOTHING, clock, iso_ms, moment, price, roughly, span

MAX_LAG_S = 60.0
"""Behind by more than this the page says so; ``status --check --max-lag`` and ``/readyz?max_lag`` take another."""

ROW = "row-"
"""What the ids of rows begin with."""

MANY_ROWS = 50
"""From this many instruments on, figures are coarser and rows are sent less often."""

MOODS = ("bad", "busy", "good")


def row_id(instrument: Instrument) -> str:
    """The id of an instrument's row."""
    return f"{ROW}{instrument.market}-{instrument.symbol}"


def verdict(view: View) -> tuple[str, str]:
    """How it stands, as ``good``, ``busy`` or ``bad``, and in a sentence that changes only when that does."""
    if view.daemon.trouble is not None:
        return "bad", f"The disk fails, and is tried again: {view.daemon.trouble.reason}"
    paused = [f"{pool}: {each.reason}" for pool, each in view.daemon.budgets.items() if each.paused_ms > 0]
    if paused:
        return "bad", f"The exchange has paused us ({', '.join(paused)})"
    behind = view.daemon.stale(MAX_LAG_S)
    if behind:
        more = f", and {len(behind) - 1} more" if len(behind) > 1 else ""
        return "busy", f"Not up to date: {behind[0].split(',')[0]}{more}"
    attached, every = view.daemon.live.attached, len(view.daemon.instruments)
    if attached == every:
        return "good", "Live and complete" if every == 1 else f"Live and complete: all {every} instruments"
    sentence = f"Complete: {attached} of {every} instruments live, the others polled"
    silent = view.daemon.live.silent
    if silent:
        return "busy", f"{sentence}; the stream does not bring the trades of {silent}"
    return "good", sentence


def of_head(view: View) -> Parts:
    """The sentence for all, and the time of the page."""
    mood, sentence = verdict(view)
    return {"verdict": tag("span", sentence, class_=mood), "now": Markup(f"{moment(view.daemon.wall_ms)} UTC")}


def of_live(view: View) -> Parts:
    """The cells of each instrument."""
    return {row_id(each): _cells(view, each) for each in view.daemon.instruments}


def live_rows(view: View) -> Markup:
    """The rows of the instruments, with their cells; those that are not well come first."""
    ordered = sorted(view.daemon.instruments, key=lambda each: MOODS.index(_state(view, each)[0]))
    rows = (
        tag("tr", _cells(view, each), id=row_id(each), aria_current="true" if each == view.chosen else None)
        for each in ordered
    )
    return joined(*rows)


def _state(view: View, instrument: Instrument) -> tuple[str, str]:
    """How an instrument stands: its mood, and a word or two."""
    live, behind_s = view.daemon.live.instruments.get(instrument), _behind_s(view, instrument)
    if behind_s is None:
        return "busy", "filling"
    if live is not None and live.hole_since_s is not None:
        return "busy", "healing a hole"
    if live is not None and live.is_attached:
        return "good", "live"
    if live is not None and live.is_silent and behind_s <= MAX_LAG_S:
        return "busy", "polled: silent stream"
    return ("good", "polled") if behind_s <= MAX_LAG_S else ("bad", "behind")


def _behind_s(view: View, instrument: Instrument) -> float | None:
    fresh = view.daemon.freshness.get(instrument)
    if fresh is None or fresh.complete_ms is None:
        return None
    return max(0.0, view.daemon.wall_ms - fresh.complete_ms) / 1000


def _cells(view: View, instrument: Instrument) -> Markup:
    live, behind_s = view.daemon.live.instruments.get(instrument), _behind_s(view, instrument)
    kind, state = _state(view, instrument)
    written = span if len(view.daemon.instruments) < MANY_ROWS else roughly
    last = None if live is None else live.last
    return cells(
        tag("a", str(instrument), href=f"/?instrument={instrument}#price"),
        tag("span", state, class_=f"state {kind}"),
        NOTHING if behind_s is None else written(behind_s),
        NOTHING if last is None else price(last.p),
        NOTHING if last is None else tag("time", clock(last.T), datetime=iso_ms(last.T)),
        NOTHING if live is None else f"{live.trades:,}",
    )
