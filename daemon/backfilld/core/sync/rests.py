"""How long a sync rests between two rounds, and what it does only now and then."""

from math import floor
from zlib import crc32

from backfilld.core.model import Instrument
from backfilld.core.retry import doubled

LONGEST_REST_S = 300.0
"""A quiet instrument rests at most this long, unless POLL_SECONDS is longer."""

LONG_SILENCE_S = 1800.0
"""This long after its newest trade an instrument counts as quiet from its first round without news."""

_ROUNDS_SKIPPED = 2
"""How many doublings a long silence saves."""

ARCHIVE_AGAIN_S = 3 * 3600.0
"""How often the archive is asked again for a day that is not complete."""

LOOK_EVERY_S = 300.0
"""How often to look whether another program has changed the files: one stat per file."""

_ROUNDING = 1e-6
"""The part of a rest that floating point may take from the time at which a round was due."""


def rest_s(poll_s: float, quiet_rounds: int, silent_s: float = 0.0) -> float:
    """The rest after this many rounds in a row that brought nothing: it doubles each time, up to LONGEST_REST_S.

    ``silent_s`` is the time since the newest trade: after LONG_SILENCE_S the first doubling counts as three.
    """
    is_silent = quiet_rounds > 0 and silent_s >= LONG_SILENCE_S
    doublings = quiet_rounds + _ROUNDS_SKIPPED * is_silent
    return max(poll_s, doubled(poll_s, LONGEST_REST_S, 1 + doublings))


def rests_until(now_s: float, poll_s: float, rest: float, phase: float) -> float:
    """When a rest ends that begins now, by the same clock. ``phase`` is from 0 to below 1.

    A rest that is longer than POLL_SECONDS ends at the instrument's phase of it, so that instruments do not ask
    together because they began together. The wait is never longer than ``rest`` and never shorter than POLL_SECONDS.
    """
    if rest <= poll_s:
        return now_s + poll_s
    offset_s = phase * rest
    whole = floor((now_s - offset_s) / rest + _ROUNDING) + 1
    return max(now_s + poll_s, offset_s + whole * rest)


def phase_of(instrument: Instrument) -> float:
    """The part of a rest, from 0 to below 1, at which an instrument asks. It is always the same; those of many
    instruments spread evenly."""
    return crc32(str(instrument).encode()) / 2**32
