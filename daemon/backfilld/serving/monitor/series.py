"""The numbers behind the charts, as the script draws them: columns of equal length, the first of them the time in s.

Owns which points are sent: all at first, then those from the last one before on, which may still have grown.
"""

from collections.abc import Mapping, Sequence

from backfilld.core.markets import Pool
from backfilld.serving.monitor.view import View

Columns = Sequence[Sequence[float]]


def series(view: View) -> Mapping[str, Columns]:
    """The columns of each chart, by its name."""
    points = [] if view.today is None else view.today.points
    times = [each.start_ms / 1000 for each in points]
    rates = view.history.rates
    found: dict[str, Columns] = {
        "price": [times, [each.price for each in points], [round(each.vwap, 8) for each in points]],
        "delta": [times, [round(each.delta, 8) for each in points]],
        "rate": [[each.stop_ms / 1000 for each in rates], [round(each.trades_per_s, 3) for each in rates]],
    }
    for pool in Pool:
        windows = view.history.weight.get(pool, ())
        found[f"weight-{pool}"] = [
            [each.start_ms / 1000 for each in windows],
            [each.own for each in windows],
            [each.bots for each in windows],
            [each.others for each in windows],
            [each.limit for each in windows],
        ]
    return found


def newer(before: Mapping[str, Columns], now: Mapping[str, Columns]) -> dict[str, Columns]:
    """What to send to one who has ``before``: of each chart that changed, the points from the last one he has on."""
    return {
        name: [column[_shared(before.get(name, ()), columns) :] for column in columns]
        for name, columns in now.items()
        if columns != before.get(name)
    }


def _shared(before: Columns, now: Columns) -> int:
    """The place of the last point in ``before`` among those of ``now``; 0 if it is not there."""
    if not before or not before[0]:
        return 0
    last = before[0][-1]
    return next((place for place, at in enumerate(now[0]) if at == last), 0)
