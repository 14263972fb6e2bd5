"""``/events``: the parts and points of the page that have changed, as server-sent events.

Owns the pace. One view is made for all who look at an instrument; a client that takes nothing is the endpoint's to end.
"""

from collections.abc import AsyncIterator, Mapping
from itertools import count

import msgspec
import trio

from backfilld.core.model import Instrument
from backfilld.serving.monitor.live_section import MANY_ROWS, ROW, row_id
from backfilld.serving.monitor.markup import Markup
from backfilld.serving.monitor.parts import parts
from backfilld.serving.monitor.series import Columns, newer, series
from backfilld.serving.monitor.watch import Watch

EVERY_S = 0.5
"""How often a page is brought up to date: a trade shows within 2 s."""

ROWS_EVERY = 3
"""Where there are many rows, only that of the chosen instrument is sent each time, the others every third."""

AGAIN_MS = 2000
"""How long a browser waits before it connects again."""


class Changes:
    """What a page of one instrument shows, made at most once in EVERY_S, however many look."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._made: dict[Instrument, tuple[float, Mapping[str, Markup], Mapping[str, Columns]]] = {}

    def now(self, instrument: Instrument) -> tuple[Mapping[str, Markup], Mapping[str, Columns]]:
        """All parts and all points."""
        now = trio.current_time()
        made = self._made.get(instrument)
        if made is None or made[0] <= now - 0.9 * EVERY_S:
            view = self._watch.look(instrument)
            self._made = {each: of for each, of in self._made.items() if of[0] > now - 10 * EVERY_S}
            made = self._made[instrument] = now, parts(view), series(view)
        return made[1], made[2]


async def events(changes: Changes, instrument: Instrument) -> AsyncIterator[bytes]:
    """The stream of one client: first everything, then what changes, without end."""
    shown: Mapping[str, Markup] = {}
    drawn: Mapping[str, Columns] = {}
    yield b"retry: %d\n\n" % AGAIN_MS
    for turn in count():
        parts_now, series_now = changes.now(instrument)
        if turn % ROWS_EVERY:
            parts_now = _with_rows_of(shown, parts_now, row_id(instrument))
        changed = {name: str(text) for name, text in parts_now.items() if shown.get(name) != text}
        charts = {
            name: {"start": series_now[name][0][0] if series_now[name][0] else 0, "columns": columns}
            for name, columns in newer(drawn, series_now).items()
        }
        shown, drawn = parts_now, series_now
        if changed or charts:
            yield b"data: " + msgspec.json.encode({"parts": changed, "charts": charts}) + b"\n\n"
        await trio.sleep(EVERY_S)


def _with_rows_of(before: Mapping[str, Markup], now: Mapping[str, Markup], chosen: str) -> Mapping[str, Markup]:
    """The parts of now, with the rows of before where there are many."""
    rows = [name for name in now if name.startswith(ROW) and name != chosen and name in before]
    return now if len(rows) < MANY_ROWS else {**now, **{name: before[name] for name in rows}}
