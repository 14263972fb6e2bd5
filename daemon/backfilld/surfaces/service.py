"""A service's manners: it says when it is ready, what it is doing and that it is alive, and reads its settings again.

Owns the sentences of STATUS and when READY is true. How systemd is notified is the adapter's.
"""

from collections.abc import Callable

import structlog
import trio

from backfilld.actors.disk import LONGEST_RETRY_S
from backfilld.adapters.systemd import Notifier
from backfilld.assembly import spec_of
from backfilld.core.monitor.pulse import Pulse
from backfilld.core.monitor.snapshot import Snapshot
from backfilld.core.sync.spec import Reload
from backfilld.errors import SettingsError
from backfilld.pipeline import Pipeline
from backfilld.settings import Settings
from backfilld.surfaces.logs import set_level

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
START_TAKES_S = 60.0
"""While the first backfill runs, we repeatedly ask systemd to wait this much longer."""
STOPPING = "stopping: saving what is in hand"
SLACK_S = 10.0
"""Slack beyond the longest request, and beyond the longest wait for a failing disk, in which nothing need move."""


class Service:
    """The daemon as its manager sees it. ``read_settings`` reads the settings anew; it raises SettingsError."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, notifier: Notifier, read_settings: Callable[[], Settings]
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._notifier = notifier
        self._read_settings = read_settings
        self._is_ready = False

    async def attend(self) -> None:
        """Keep the manager informed, until cancelled; return at once where there is none."""
        if not self._notifier:
            return
        longest_s = max(self._settings.request_timeout_seconds, LONGEST_RETRY_S) + SLACK_S
        patience_s = max(self._notifier.watchdog_s / 2, longest_s)
        pulse = Pulse(patience_s)
        every_s = min(LOOK_EVERY_S, self._notifier.watchdog_s / 4 or LOOK_EVERY_S)
        while True:
            seen = self._pipeline.snapshot()
            self._notifier.status(status_line(seen))
            self._notify_readiness(seen)
            if pulse.is_alive(seen) and self._notifier.watchdog_s:
                self._notifier.alive()
            await trio.sleep(every_s)

    def stopping(self) -> None:
        """A signal has asked for the end."""
        self._notifier.stopping()
        self._notifier.status(STOPPING)

    def reload(self) -> None:
        """Read the settings again and go on under them; what is wrong with them is said, and the old ones stay."""
        if self._pipeline.stop.is_set():
            log.info("reload_ignored", reason="the daemon is stopping")
            return
        self._notifier.reloading()
        try:
            settings = self._read_settings()
        except SettingsError as error:
            log.error("reload_refused", error=str(error))
        else:
            self._apply(settings)
        if self._is_ready:
            self._notifier.ready()

    def _apply(self, settings: Settings) -> None:
        fixed = self._settings.fixed_differences(settings)
        if fixed:
            log.warning("restart_needed", settings=list(fixed))
        set_level(settings.log_level)
        kept = {name: getattr(self._settings, name) for name in fixed}
        self._settings = settings.model_copy(update=kept)
        at_start = self._pipeline.spec
        spec = spec_of(self._settings, once=at_start.once, window=at_start.window)
        self._pipeline.reload.value = Reload(spec)
        log.info("settings_reloaded", instruments=[str(each) for each in spec.instruments])

    def _notify_readiness(self, seen: Snapshot) -> None:
        if self._is_ready or seen.is_stopping:
            return
        counts = seen.statistics
        # What the exchange does not list keeps nobody waiting.
        is_complete = counts.complete > 0 and counts.complete + counts.unlisted == counts.instruments
        if is_complete or self._settings.ready_when == "started":
            self._is_ready = True
            self._notifier.ready()
        else:
            self._notifier.extend(START_TAKES_S)


def status_line(seen: Snapshot) -> str:
    """What the daemon does now, in a line."""
    counts = seen.statistics
    if seen.is_stopping:
        return STOPPING
    if seen.trouble is not None:
        return f"the disk fails, and is tried again: {seen.trouble.reason}"
    if not counts.instruments:
        return "starting: reading what is stored"
    missing = counts.wanted - counts.fetched
    paused = [(pool, each) for pool, each in seen.budgets.items() if each.paused_ms]
    parts = [
        f"{counts.complete} of {counts.instruments} instruments complete",
        f"{counts.cached + counts.fetched:,} trades stored",
        f"{missing:,} to fetch" if missing else "",
        *(f"{pool} {each.reason} for {each.paused_ms / 1000:.0f} s" for pool, each in paused),
        seen.live.text if seen.live.instruments else "",
        f"{counts.archive_days:,} days to come from the archive" if counts.archive_days else "",
    ]
    if counts.last_error is not None and counts.complete < counts.instruments:
        parts.append(f"last error: {counts.last_error}")
    return "; ".join(part for part in parts if part)
