"""The last warnings, and who uses the endpoint.

Owns the words of the last two sections of the page.
"""

from backfilld.serving.monitor.markup import Parts, empty_row, figure_list, joined, row, tag
from backfilld.serving.monitor.view import View


def of_log(view: View) -> Parts:
    """A table of the last warnings."""
    rows = (
        row(each.timestamp[:19].replace("T", " "), tag("span", each.level, class_=each.level), each.event, each.about)
        for each in view.warnings
    )
    return {"log-rows": joined(*rows) or empty_row(4, "No warning so far.")}


def of_users(view: View) -> Parts:
    """Answers and subscribers, with a table by route."""
    counts = view.endpoint
    routes: dict[str, dict[str, int]] = {}
    for (route, status, source), count in sorted(counts.answers.items()):
        of = routes.setdefault(route, {})
        of[source] = of.get(source, 0) + count
        of["failed"] = of.get("failed", 0) + count * (status >= 400)  # noqa: PLR2004 - where HTTP's errors begin
    names = ("cache", "live", "forwarded", "coalesced", "own", "refused", "failed")
    rows = (row(route, *(f"{of.get(name, 0):,}" for name in names)) for route, of in routes.items())
    return {
        "users-sum": figure_list(
            ("answers", f"{counts.answers.total():,}"),
            ("subscribers", f"{view.subscribers:,}"),
            ("frames sent", f"{counts.frames:,}"),
            ("subscribers dropped", f"{counts.dropped.total():,}"),
        ),
        "users-rows": joined(*rows) or empty_row(8, "Nobody has asked so far."),
    }
