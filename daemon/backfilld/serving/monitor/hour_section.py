"""The last hour: request weight, trades a second, and holes.

Owns the words of these three sections of the page.
"""

from backfilld.core.markets import Pool
from backfilld.core.monitor.history import WeightWindow
from backfilld.serving.monitor import drawing
from backfilld.serving.monitor.markup import Markup, Parts, empty_row, figure_list, joined, row, tag
from backfilld.serving.monitor.view import View
from backfilld.serving.monitor.words import NOTHING, minute, moment, span


def of_weight(view: View) -> Parts:
    """Used weight of each pool, with a table by minutes."""
    found: dict[str, Markup] = {}
    for pool in Pool:
        windows, now = view.history.weight.get(pool, ()), view.daemon.budgets.get(pool)
        if now is None:
            found[f"weight-{pool}-sum"] = Markup("Nothing has been asked of this pool.")
        else:
            found[f"weight-{pool}-sum"] = figure_list(
                ("own", f"{now.own:,}"),
                ("bots", f"{now.clients:,}"),
                ("others", f"{now.others:,}"),
                ("limit", f"{now.limit:,} per {now.interval}"),
            )
        found[f"weight-{pool}-rows"] = joined(*map(_weight_row, reversed(windows)))
    return found


def weight_drawn(view: View, pool: Pool) -> Markup:
    """Used weight of a pool by minutes as a picture."""
    windows, now = view.history.weight.get(pool, ()), view.daemon.budgets.get(pool)
    stacks = [{"own": each.own, "bots": each.bots, "others": each.others} for each in windows]
    label = f"used weight of {pool} by minute, most {max((each.used for each in windows), default=0):,}"
    return drawing.bars(label, stacks, now.limit if now else 0)


def _weight_row(window: WeightWindow) -> Markup:
    figures = (window.own, window.bots, window.others, window.limit)
    return row(minute(window.start_ms), *(f"{each:,}" for each in figures))


def of_rate(view: View) -> Parts:
    """Trades a second, with a table by minutes."""
    rates = view.history.rates
    values = [each.trades_per_s for each in rates]
    now = f"{values[-1]:,.1f}" if values else NOTHING
    minutes: dict[str, list[float]] = {}
    for each in rates:
        minutes.setdefault(minute(each.stop_ms), []).append(each.trades_per_s)
    means = ((name, sum(of) / len(of), max(of)) for name, of in reversed(minutes.items()))
    return {
        "rate-sum": figure_list(("now", now), ("most", f"{max(values):,.1f}" if values else NOTHING)),
        "rate-rows": joined(*(row(name, f"{mean:,.1f}", f"{most:,.1f}") for name, mean, most in means)),
    }


def rate_drawn(view: View) -> Markup:
    """Trades a second as a picture."""
    rates = view.history.rates
    curve = drawing.Line("rate", [each.trades_per_s for each in rates])
    return drawing.lines("trades a second", [each.stop_ms for each in rates], [curve], from_zero=True)


def of_holes(view: View) -> Parts:
    """Holes so far, and a table of the last ones."""
    live = view.daemon.live
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
        "holes-sum": figure_list(
            ("found", f"{live.holes_found:,}"),
            ("healed", f"{live.holes_healed:,}"),
            ("given up", f"{live.holes_given_up:,}"),
            ("stood on average", _mean_of_holes(view)),
        ),
        "holes-rows": joined(*rows) or empty_row(6, "No hole so far."),
    }


def _mean_of_holes(view: View) -> str:
    seconds = view.daemon.live.heal_seconds
    return span(seconds.total / seconds.count) if seconds.count else NOTHING
