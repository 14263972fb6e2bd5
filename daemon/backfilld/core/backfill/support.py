"""How many answers speak for the trades that came, and how many against them.

Owns the rule that says when rows are believed with nothing known beside them: on an empty cache, or far from all that
is stored. Every answer may be another symbol's, and such answers fit each other.

1. Rows of ids that lie within A_JUMP of each other are one part. A part with a trade that the archive has stored, or an
   earlier process that has proven something of its day, is believed: what came of it was held against that trade.
2. In any other part each answer that was accepted counts for it, whichever question it answers, and each that was
   refused on the way against it. ENOUGH more have to be for it than against; CONTESTED more, where any was against.
3. Where they are not, trades of the part are asked for again by their ids. Once OUTVOTED more are against it than for
   it, it is forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from backfilld.core.backfill.neighbours import A_JUMP
from backfilld.core.ids import IdSet
from backfilld.core.model import IdRange

ENOUGH, CONTESTED, OUTVOTED = 6, 8, 3
"""If three of ten answers are another symbol's, one cold start in 100 meets four of them in a row, and one contested
part in 800 gets so far ahead; if one of ten is, one in 10,000, and one in 40 million."""

MOST_VOTES = 256
"""Votes that are kept apart; then those of one part are added up."""


@dataclass(frozen=True, slots=True)
class Vote:
    """An answer that has these ids: how many said the same, and how many something else."""

    ids: IdRange
    agreeing: int
    against: int


class Support:
    """What speaks for the rows of one instrument, over all plans of a process."""

    def __init__(self) -> None:
        self._sure = IdSet()
        self._votes: list[Vote] = []
        self.votes = 0
        """How many there were."""

    def trust(self, ids: IdSet) -> None:
        """These ids were proven before, came from the archive, or with a round that is complete."""
        self._sure |= ids
        self._votes = [each for each in self._votes if not ids & IdSet((each.ids,))]

    def forget(self, ids: IdSet) -> None:
        """These ids are not stored any more. All votes are begun anew."""
        self._sure -= ids
        self._votes.clear()

    def has_sure(self, ids: IdRange) -> bool:
        """Whether one of these ids is believed whatever answers say."""
        return bool(self._sure & IdSet((ids,)))

    def vote(self, ids: IdRange, agreeing: int, against: int, received: IdSet) -> None:
        """A question was answered. Answers that said something else than the one that has these ids are ``against``."""
        self.votes += 1
        self._votes.append(Vote(ids, agreeing, against))
        if len(self._votes) > MOST_VOTES:
            self._votes = list(self._added_up(received))

    def weak(self, received: IdSet) -> IdSet:
        """The parts that too few answers speak for yet."""
        return IdSet(tuple(part for part in self._parts(received) if self._lacks(part)))

    def contested(self, received: IdSet) -> IdSet:
        """The parts that too few answers speak for, and some against."""
        parts = (part for part in self._parts(received) if any(each.against for each in self._of(part)))
        return IdSet(tuple(part for part in parts if self._lacks(part)))

    def outvoted(self, received: IdSet) -> IdSet:
        """The parts that answers speak against."""
        lost = (part for part in self._parts(received) if self._lead(part) <= -OUTVOTED and not self.has_sure(part))
        return IdSet(tuple(lost))

    def beside(self, ids: IdRange, received: IdSet) -> IdSet:
        """The weak parts next to these ids, for which no answer came that could be used."""
        parts = self._parts(received)
        below = [each for each in parts if each.first_id <= ids.last_id][-1:]
        above = [each for each in parts if each.last_id >= ids.first_id][:1]
        return IdSet.of(each for each in (*below, *above) if self._lacks(each, is_contested=True))

    def _lacks(self, part: IdRange, *, is_contested: bool = False) -> bool:
        if self.has_sure(part):
            return False
        is_contested |= any(each.against for each in self._of(part))
        return self._lead(part) < (CONTESTED if is_contested else ENOUGH)

    def _lead(self, part: IdRange) -> int:
        return sum(each.agreeing - each.against for each in self._of(part))

    def _of(self, part: IdRange) -> Iterator[Vote]:
        return (each for each in self._votes if _meets(each.ids, part))

    def _added_up(self, received: IdSet) -> Iterator[Vote]:
        left = self._votes
        for part in self._parts(received):
            votes = [each for each in left if _meets(each.ids, part)]
            left = [each for each in left if not _meets(each.ids, part)]
            if votes:
                yield Vote(part, sum(each.agreeing for each in votes), sum(each.against for each in votes))
        yield from left[-MOST_VOTES // 2 :]

    @staticmethod
    def _parts(received: IdSet) -> list[IdRange]:
        parts: list[IdRange] = []
        for each in received.ranges:
            if parts and each.first_id - parts[-1].last_id <= A_JUMP:
                parts[-1] = IdRange(parts[-1].first_id, each.last_id)
            else:
                parts.append(each)
        return parts


def _meets(one: IdRange, other: IdRange) -> bool:
    return one.first_id <= other.last_id and other.first_id <= one.last_id
