"""The newest trade that the exchange has ever shown of a symbol, the end that was agreed on last, and the first trade.

Owns the memory that outlives a plan, a round and a process: a replica that lags cannot make us forget a trade that
another one has shown. Two answers refute an id that never was: they name lower ids of later times, which a replica that
lags cannot do.
"""

from dataclasses import dataclass, replace

from backfilld.core.day.division import OUT_OF_ORDER_MS
from backfilld.core.ids import IdSet

REFUTING = 2
"""How many answers it takes to give up a trade that one answer has shown."""

MOST_IN_A_MINUTE = 1_000_000
"""More ids than any symbol gets within OUT_OF_ORDER_MS. Of two trades whose ids are farther apart, the later one has
the higher id."""

AGREED_FOR_MS = 3_600_000
"""For this long after an end was agreed on, in ms, two answers that show nothing new suffice to agree on it again.
After that, the replica that answers may have frozen there."""

NOTED_EVERY_MS = 600_000
"""How often the time of an agreement is noted, in ms, while nothing else changes."""


@dataclass(frozen=True, slots=True)
class ShownEnd:
    """The values that are kept. ``shown_id`` is the highest id shown, of time ``shown_ms``. ``agreed_id`` was agreed to
    be the newest id at ``agreed_ms``. ``latest_ms`` is the latest time of any trade; that trade may have a lower id,
    where ids begin again. Nothing was traded between ``empty_from_ms`` and the trade ``first_id``.

    Times are the exchange's, in ms. Ids are None until one is shown, or agreed on."""

    shown_id: int | None = None
    shown_ms: int = 0
    agreed_id: int | None = None
    agreed_ms: int = 0
    latest_ms: int = 0
    first_id: int | None = None
    empty_from_ms: int = 0

    @property
    def trade(self) -> str:
        """The trade that was shown, as part of a sentence."""
        return f"id {self.shown_id}" if self._is_latest else f"id {self.shown_id} and lower ids of later times"

    @property
    def is_settled(self) -> bool:
        """Whether the newest trade shown is the end that was agreed on."""
        return self.agreed_id == self.shown_id and self._is_latest

    @property
    def _is_latest(self) -> bool:
        return self.latest_ms <= self.shown_ms + OUT_OF_ORDER_MS


class NewestShown:
    """The newest trade that the exchange has shown so far. The successive plans of one instrument share it.

    ``now_ms`` is the exchange's time, None while it is not known. No trade is later than that."""

    def __init__(self) -> None:
        self.end = ShownEnd()
        self.now_ms: int | None = None
        self._refuted = self._latest_once_ms = 0
        self._noted = self.end
        self._has_noted = False

    def recall(self, end: ShownEnd) -> None:
        """Go on from what an earlier process has kept."""
        self.end = self._noted = end

    def show(self, trade_id: int, at_ms: int) -> None:
        """Note that a trade with this id exists."""
        self._see(at_ms)
        if self.end.shown_id is None or trade_id > self.end.shown_id:
            self.end = replace(self.end, shown_id=trade_id, shown_ms=at_ms)
            self._refuted = 0

    def name(self, trade_id: int, at_ms: int, *, is_agreed: bool = False) -> None:
        """Note that an answer ends with this trade. If it is later than the one shown and has a lower id, the one shown
        cannot exist; nor if several answers are ``is_agreed`` on this one, which is about as late."""
        self._see(at_ms)
        shown_id = self.end.shown_id
        if shown_id is None or trade_id >= shown_id:
            return
        is_far = is_agreed or shown_id - trade_id > MOST_IN_A_MINUTE
        if at_ms > self.end.shown_ms + (-OUT_OF_ORDER_MS if is_far else OUT_OF_ORDER_MS):
            self._refuted += 1
            if is_agreed or self._refuted >= REFUTING:
                self.end = replace(self.end, shown_id=trade_id, shown_ms=at_ms)

    def forget(self, ids: IdSet) -> None:
        """These ids were named by wrong answers."""
        if any(each is not None and each in ids for each in (self.end.shown_id, self.end.agreed_id, self.end.first_id)):
            self.end = ShownEnd()
            self._refuted = self._latest_once_ms = 0

    def _see(self, at_ms: int) -> None:
        if self.now_ms is not None and at_ms > self.now_ms + OUT_OF_ORDER_MS:
            return
        # One answer alone may have the times of another day, so the second latest time counts.
        seen_ms = min(at_ms, self._latest_once_ms)
        self._latest_once_ms = max(at_ms, self._latest_once_ms)
        if seen_ms > self.end.latest_ms:
            self.end = replace(self.end, latest_ms=seen_ms)

    def agree(self, last_id: int, now_ms: int) -> None:
        """Note that this was agreed to be the newest trade at this time."""
        self.end = replace(self.end, agreed_id=last_id, agreed_ms=now_ms)

    def begin(self, first_id: int, empty_from_ms: int) -> None:
        """Note that nothing was traded from ``empty_from_ms`` until this trade."""
        if self.end.first_id != first_id or empty_from_ms < self.end.empty_from_ms:
            self.end = replace(self.end, first_id=first_id, empty_from_ms=empty_from_ms)

    def is_first(self, trade_id: int, start_ms: int) -> bool:
        """Whether it was proven that nothing was traded from this time until this trade."""
        return self.end.first_id == trade_id and self.end.empty_from_ms <= start_ms

    def is_behind(self, last_id: int | None, last_ms: int) -> bool:
        """Whether a trade behind this one was shown, by its id or by its time."""
        end = self.end
        is_above = end.shown_id is not None and (last_id is None or last_id < end.shown_id)
        return is_above or end.latest_ms > last_ms + OUT_OF_ORDER_MS

    def was_agreed(self, last_id: int, now_ms: int | None) -> bool:
        """Whether this was agreed to be the newest trade within the last AGREED_FOR_MS."""
        return self.end.agreed_id == last_id and (now_ms is None or now_ms - self.end.agreed_ms <= AGREED_FOR_MS)

    def to_note(self, held_id: int | None, held_ms: int) -> ShownEnd | None:
        """What to write to disk now; None if what was written last suffices. ``held_id`` is the highest id stored, and
        ``held_ms`` the latest time stored.

        A stored trade needs no other memory. While trades come, an agreement is written only every NOTED_EVERY_MS."""
        end, noted = self.end, self._noted
        is_owed = self.is_behind(held_id, held_ms) and end != noted
        is_first = not self._has_noted and end.agreed_id != noted.agreed_id
        is_first |= (end.first_id, end.empty_from_ms) != (noted.first_id, noted.empty_from_ms)
        is_old = end.agreed_ms >= noted.agreed_ms + NOTED_EVERY_MS
        if not (is_owed or is_first or is_old):
            return None
        self._noted, self._has_noted = end, True
        return end
