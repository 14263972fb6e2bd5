"""Sealed days in a bucket: what they are called, what a push comes to, and when the next one is tried.

    on disk, sealed ──look──> nothing there ──create──> pushed
                        │                       └─ refused: somebody was first, or our own answer was lost: look again
                        ├───> the same digest ────────> stored (nothing to do)
                        └───> another digest ─────────> conflicted (nothing is overwritten)

Two files of one day may differ byte by byte, by their sources or their compression: their rows are the same if their
digests are. Owns the keys and the decisions. Must not touch files or the network.
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import msgspec

from backfilld.core.model import Instrument
from backfilld.core.retry import doubled
from backfilld.errors import SettingsError

STATE_FOLDER = ".backfilld"
"""Holds what is derived or for our own use; no pattern that names all day files reaches into it."""

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0
"""How long to wait after the first failure of the bucket, and at most. The wait doubles with each failure."""

_DAY_KEY = re.compile(r"market=([^/=]+)/symbol=([^/=]+)/backfill_(\d{4}-\d\d-\d\d)\.parquet")

DayName = tuple[Instrument, date]


def folder_of(instrument: Instrument) -> str:
    """The folder of an instrument's days, the same as in the cache directory."""
    return f"market={instrument.market}/symbol={instrument.symbol}"


def day_key(instrument: Instrument, day: date) -> str:
    """The key of a day, the same as its path in the cache directory."""
    return f"{folder_of(instrument)}/backfill_{day:%Y-%m-%d}.parquet"


def day_of_key(key: str) -> DayName | None:
    """Whose day an object is; None for any other object."""
    match = _DAY_KEY.fullmatch(key)
    try:
        return (Instrument.parse(f"{match[1]}:{match[2]}"), date.fromisoformat(match[3])) if match else None
    except (SettingsError, ValueError):
        return None


def manifest_key(instrument: Instrument) -> str:
    """The key of an instrument's manifest."""
    return f"{STATE_FOLDER}/manifest/{instrument.market}-{instrument.symbol}.manifest"


def replaced_key(key: str, etag: str) -> str:
    """Where the object stays that a repair replaces; no pattern that names all day files matches it."""
    return f"{STATE_FOLDER}/replaced/{key}.{re.sub('[^A-Za-z0-9-]', '', etag) or 'untagged'}"


Standing = Literal["pushed", "stored", "conflicted"]
"""What a push comes to: created; there already with the same rows; there with other rows."""


def standing_of(ours: str, theirs: str | None) -> Standing:
    """What an object with the digest ``theirs`` is to a day with the digest ``ours``."""
    return "stored" if theirs == ours else "conflicted"


class PushNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is remembered of one day: the digest that was pushed; or the other one that was found in the bucket."""

    digest: str
    conflict: str | None = None

    @property
    def is_pushed(self) -> bool:
        """Whether the bucket stores these rows."""
        return self.conflict is None


def unpushed_days(digests: Mapping[date, str], notes: Mapping[date, PushNote]) -> tuple[date, ...]:
    """The sealed days whose rows are not noted as stored in the bucket, oldest first."""
    return tuple(sorted(day for day, digest in digests.items() if not is_pushed(digest, notes.get(day))))


def is_pushed(digest: str | None, note: PushNote | None) -> bool:
    """Whether the rows with this digest are noted as stored in the bucket; never for a day that is not sealed."""
    return digest is not None and note is not None and note.is_pushed and note.digest == digest


@dataclass(slots=True)
class Reachability:
    """Whether the bucket answers, and when it is asked again. Times are in seconds of one clock."""

    _failures: int = 0
    _failed_at: float = 0.0
    _asks_at: float = float("-inf")

    def may_ask(self, now_s: float) -> bool:
        """Whether the bucket is to be asked now."""
        return now_s >= self._asks_at

    @property
    def asks_at(self) -> float:
        """When it is asked again; in the past while it answers."""
        return self._asks_at

    @property
    def is_lost(self) -> bool:
        """Whether the last that was heard of it is a failure."""
        return self._failures > 0

    def failed(self, now_s: float) -> bool:
        """Note a failure; returns whether it is news."""
        self._failures += 1
        if self._failures == 1:
            self._failed_at = now_s
        self._asks_at = now_s + doubled(FIRST_WAIT_S, LONGEST_WAIT_S, self._failures)
        return self._failures == 1

    def answered(self, now_s: float) -> float | None:
        """Note an answer; returns for how long there was none, None if that is not news."""
        was_lost, self._failures, self._asks_at = self.is_lost, 0, float("-inf")
        return now_s - self._failed_at if was_lost else None


@dataclass(slots=True)
class PushQueue:
    """The days that wait to be pushed, each once; those of one instrument in the sequence in which they came."""

    _waiting: deque[DayName] = field(default_factory=deque)
    _known: set[DayName] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: DayName) -> None:
        """Let a day wait, unless it does."""
        if name not in self._known:
            self._known.add(name)
            self._waiting.append(name)

    def has(self, instrument: Instrument) -> bool:
        """Whether a day of the instrument waits."""
        return any(each == instrument for each, _ in self._waiting)

    def take(self) -> DayName | None:
        """The next day, which may be added again from now on; None if none waits."""
        if not self._waiting:
            return None
        name = self._waiting.popleft()
        self._known.remove(name)
        return name
