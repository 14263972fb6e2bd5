"""The page in parts: the HTML inside each element that changes, by its id.

The template has the places; ``/events`` sends the parts that differ from those before, so that the page says the same
with script and without.
"""

from backfilld.core.markets import Pool
from backfilld.serving.monitor import days_section, hour_section, live_section, users_section
from backfilld.serving.monitor.markup import Parts
from backfilld.serving.monitor.view import View

_SECTIONS = (
    live_section.of_head,
    live_section.of_live,
    days_section.of_coverage,
    days_section.of_today,
    hour_section.of_weight,
    hour_section.of_rate,
    hour_section.of_holes,
    users_section.of_log,
    users_section.of_users,
)


def parts(view: View) -> Parts:
    """Every part, by id."""
    return {name: text for section in _SECTIONS for name, text in section(view).items()}


def drawings(view: View) -> Parts:
    """The charts as they are drawn without script, by id; with it, the points of the series are sent instead."""
    points = [] if view.today is None else view.today.points
    found = {
        "price-drawn": days_section.price_drawn(view, points),
        "delta-drawn": days_section.delta_drawn(points),
        "rate-drawn": hour_section.rate_drawn(view),
    }
    return found | {f"weight-{pool}-drawn": hour_section.weight_drawn(view, pool) for pool in Pool}
