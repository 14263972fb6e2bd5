"""What a log event says to a person: one sentence per event.

Owns the words on a terminal. JSON lines carry the event and its fields instead. An event that has no sentence here, or
lacks a field of it, is written as its name with its fields.
"""

from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from backfilld.surfaces.words import age, counted, size

SENTENCES = {
    "daemon_started": "backfilld {version}, pid {pid}: {instruments} in {cache_dir}",
    "polling_planned": "polling without a stream takes up to {weight:,} of {allowed:,} {pool} weight a minute",
    "daemon_stopped": "{outcome}, after {seconds:.1f} s",
    "cache_opened": "opened the cache {dir}",
    "cache_disabled": "stores nothing: the cache is switched off",
    "backfill_started": "backfills from {start}",
    "days_loaded": "{days:,} stored days are as they were, {trades}",
    "day_loaded": "read {trades} of {day} from disk",
    "gap_found": "{trades} stored, the newest {gap_hours} old; {missing_ids} known to be missing",
    "cache_missed": "nothing stored of {day} yet",
    "fetch_planned": "fetches {trades} in {chunks}",
    "trades_merged": "merged {downloaded:,} new trades of {day} with {cached:,} stored ones",
    "day_saved": "saved {day}: {trades}, {bytes}",
    "backfill_completed": "complete: {trades}, {requests}, {seconds:.1f} s",
    "backfill_incomplete": "incomplete: {reasons}",
    "request_retried": "{error}; asks again",
    "request_failed": "{error}; gave up for this round",
    "unanswered": "the exchange does not answer for this time any more: {error}",
    "first_id_unproven": "the exchange did not name the trade before the first one: {error}",
    "trade_conflicted": "two versions of trade {id} on {day}: the first stays",
    "day_turned": "midnight: {day} begins",
    "day_deleted": "deleted {day}, older than KEEP_DAYS",
    "day_kept": "kept {day}: it is not in the bucket yet",
    "day_quarantined": "moved a bad file aside: {reason} ({moved_to})",
    "day_damaged": "{error}; fetches it again",
    "answers_contradict": "answers of the exchange contradict each other; asks again for what they have brought",
    "day_lost_trades": "{day} has fewer trades than before; fetches them again",
    "files_changed": "another program changed {days}",
    "temporary_file_swept": "deleted a file that a crash left: {file}",
    "archive_planned": "takes {days} from the archive",
    "archive_taken": "stored {day} from the archive: {trades}, {bytes}",
    "archive_refused": "{day}: {reason}",
    "exchange_paused": "{reason} by the exchange: sends nothing for {seconds:.0f} s",
    "governor_state": "uses up to {allowed:,} of {limit:,} weight per {interval}, {used:,} used",
    "weight_changed": "the exchange charges another weight: {weights}",
    "governor_unsaved": "cannot save bans and learned weights: {error}",
    "shown_unsaved": "cannot save what the exchange has shown: {error}",
    "host_left": "{host} is {reason}; asks {next} for {seconds:.0f} s",
    "host_reached": "{host} answers again, after {seconds:.0f} s",
    "host_clock_wrong": "this machine's clock says {host_day}; the exchange's says {server_day}, which counts",
    "disk_failed": "the disk fails: {error}; tries until it works",
    "disk_recovered": "the disk works again, after {seconds:.0f} s",
    "log_lines_left_out": "{lines:,} lines of the log are left out here: nobody read them",
    "trades_unsaved": "could not save {trades}: {error}",
    "pipeline_crashed": "a bug: {causes}",
    "endpoint_listening": "serves {serves} at {address}",
    "endpoint_failed": "cannot serve: {error}; trades are stored meanwhile",
    "request_refused": "refused {path}: {reason}",
    "client_dropped": "closed a client: {reason}",
    "settings_reloaded": "new settings in force: {instruments}",
    "reload_refused": "the old settings stay: {error}",
    "reload_ignored": "does not read the settings again: {reason}",
    "restart_needed": "only a restart applies {settings}",
    "instrument_removed": "removed; its trades stay",
    "stop_requested": "{signal}: finishes what is in hand",
    "stopped_at_once": "second {signal}: ends at once",
    "journal_quarantined": "moved a journal aside that cannot be read: {reason} ({moved_to})",
    "report_quarantined": "moved a report of conflicts aside: {reason} ({moved_to})",
    "live_connected": "connected to the stream",
    "live_attached": "live: the stream brings its trades",
    "live_rotated": "renewed the connection to the stream",
    "live_lost": "no stream: {reason}",
    "live_silent": "the stream is silent: {reason}",
    "live_refused": "the exchange refused a subscription: {reason}",
    "live_overflowed": "dropped {trades} of the stream, {reason}; REST brings them",
    "live_unanswered": "{error}; asks again for what the stream lacks",
    "live_hole_found": "the stream lacks ids {first_id} to {last_id}; asks REST",
    "live_hole_healed": "REST brought ids {first_id} to {last_id} in {seconds:.1f} s",
    "live_hole_given_up": "nobody has ids {first_id} to {last_id}; goes on without them",
    "live_socket_failed": "other programs cannot follow this daemon: {error}",
    "follower_dropped": "dropped a follower: {reason}",
    "day_pushed": "pushed {day}, {bytes}",
    "day_pulled": "took {day} from the bucket: {trades}, {bytes}",
    "remote_held": "the bucket has {day} already",
    "remote_conflicted": "the bucket has other rows of {day}; it is not replaced",
    "remote_refused": "{day} in the bucket is not used: {reason}",
    "remote_unread": "{day} in the bucket cannot be read: {error}",
    "remote_failed": "the bucket is out of reach: {error}",
    "remote_recovered": "the bucket answers again, after {seconds:.0f} s",
    "manifest_unpublished": "the bucket's manifest could not be replaced: {error}",
    "push_failed": "{day} could not be read for the bucket: {error}",
    "push_unnoted": "cannot note what was pushed: {error}",
}

QUIET = frozenset(
    {
        "cache_opened",
        "backfill_started",
        "governor_state",
        "trades_merged",
        "day_loaded",
        "days_loaded",
        "cache_missed",
        "live_connected",
    }
)
"""Events that say nothing which a person needs; LOG_LEVEL = debug shows them."""

_ABOUT = ("instrument", "market")
_HIDDEN = {"event", "level", "timestamp", *_ABOUT}


def subject(event: Mapping[str, object]) -> str:
    """What the event is about: an instrument, a market, or nothing."""
    return next((str(event[name]) for name in _ABOUT if name in event), "")


def sentence(event: Mapping[str, object]) -> str:
    """The event in words."""
    if "repeated" in event:
        return _still(event)
    if event["event"] == "fetch_planned" and not event.get("trades", 1):
        return "has all trades up to here"
    template = SENTENCES.get(str(event["event"]))
    if template is not None:
        try:
            text = _WORDS.vformat(template, (), event)
        except (KeyError, ValueError, TypeError):
            pass
        else:
            return text
    fields = (f"{name}={value}" for name, value in event.items() if name not in _HIDDEN)
    return " ".join([str(event["event"]).replace("_", " "), *fields])


def _still(event: Mapping[str, object]) -> str:
    """The line that stands for all failures of an outage since the last one."""
    text = str(event.get("error") or event.get("reason") or "")
    if event["event"] == "live_lost":
        what = "no stream"
    elif event["event"] == "backfill_incomplete":
        what = "incomplete"
    elif "out of reach" in text:
        what = "out of reach"
    else:
        return f"{event['repeated']:,} tries in {event['for_s']:.0f} s: {text.removesuffix('.')}"
    return f"still {what}: {event['repeated']:,} tries in {event['for_s']:.0f} s"


class _Words(Formatter):
    """Formats values as people write them: lists by commas, a few days or a span of them, bytes with a unit."""

    def get_value(self, key: int | str, args: Sequence[object], kwargs: Mapping[str, object]) -> object:  # noqa: ARG002
        value = kwargs[str(key)]
        if key in _COUNTS and isinstance(value, int):
            return counted(value, _COUNTS[key])
        if key in _MEASURES and isinstance(value, int | float):
            return _MEASURES[key](value)
        if key in _FOREIGN:
            # The sentence goes on after it.
            return str(value).removesuffix(".")
        if isinstance(value, list | tuple):
            return _reasons(value) if key in _SENTENCES else _listed(value)
        return value


_SENTENCES = frozenset({"reasons", "causes"})
"""Fields with a list of sentences: it has no span from the first to the last."""

_FOREIGN = frozenset({"error", "reason"})
"""Fields with a sentence of the exchange or of a library."""

_COUNTS: Mapping[int | str, str] = {"trades": "trade", "requests": "request", "chunks": "request"}
"""Fields that are counts, and of what."""

_MEASURES: Mapping[int | str, Callable[[Any], str]] = {
    "bytes": size,
    "gap_hours": age,
    "missing_ids": lambda count: f"{count:,}" if count else "none",
}
"""Fields that are measures, and how people write them."""

_WORDS = _Words()
MOST_LISTED = 3


def _listed(values: Sequence[object]) -> str:
    if len(values) <= MOST_LISTED:
        return ", ".join(map(str, values))
    return f"{values[0]} to {values[-1]} ({len(values):,})"


def _reasons(values: Sequence[object]) -> str:
    more = f"; and {len(values) - MOST_LISTED:,} more" if len(values) > MOST_LISTED else ""
    return "; ".join(map(str, values[:MOST_LISTED])) + more
