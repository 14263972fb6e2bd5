"""The ways in which a real exchange, or the network before it, answers wrongly, and a plan of when.

Owns the names of the faults and the decision which request meets which. Pure: the n-th request of a plan meets the
same fault in every run. Must not know how a fault is carried out.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One wrong answer. The first group replaces the answer, the second its rows, the third how it is sent."""

    STATUS_500 = "status_500"
    """500 with a JSON body of the exchange."""
    STATUS_502_HTML = "status_502_html"
    STATUS_503_HTML = "status_503_html"
    """The content delivery network's own page, which never reached the exchange: no weight header."""
    STATUS_403_HTML = "status_403_html"
    """The firewall's page: a rate limit or a security block."""
    STATUS_451 = "status_451"
    """Refused for where we are."""
    ERROR_1007 = "error_1007"
    """The exchange's own timeout."""
    ERROR_1008 = "error_1008"
    """The exchange is overloaded."""
    STATUS_200_HTML = "status_200_html"
    """A page of a captive portal, with 200."""
    OBJECT_BODY = "object_body"
    """200 with an object where rows belong: ``{}`` for even request numbers, ``{"code":0}`` for odd ones."""
    GARBAGE_BODY = "garbage_body"
    """200, called JSON, but no JSON."""

    SHUFFLED = "shuffled"
    """The rows of the page in another order."""
    DOUBLED_ROW = "doubled_row"
    """The middle row twice."""
    LATER_RANGE = "later_range"
    """Silently the rows from a later id than asked for."""
    HOLE = "hole"
    """The middle row left out."""
    MISSING_FIELD = "missing_field"
    """The middle row without T."""
    NULL_FIELD = "null_field"
    """The middle row with p null."""
    BEYOND_INT64 = "beyond_int64"
    """The middle row with l = 2**63."""
    NAN_PRICE = "nan_price"
    """The middle row with p "NaN"."""
    WRONG_TYPE = "wrong_type"
    """The middle row with a as a string."""

    CUT_BODY = "cut_body"
    """Half of the announced body, then the connection ends."""
    RESET = "reset"
    """The connection is reset without an answer."""
    SILENCE = "silence"
    """No answer, until the client leaves or a minute has passed."""
    DRIP = "drip"
    """The answer at a byte every 0.2 seconds."""
    NO_WEIGHT_HEADER = "no_weight_header"
    """The right answer without its weight header."""


ARCHIVE_FAULTS = (
    Fault.STATUS_500,
    Fault.STATUS_502_HTML,
    Fault.STATUS_503_HTML,
    Fault.STATUS_403_HTML,
    Fault.STATUS_200_HTML,
    Fault.CUT_BODY,
    Fault.RESET,
    Fault.SILENCE,
    Fault.DRIP,
)
"""Those that a store of files meets: it has no rows and no weight."""


@dataclass(frozen=True, kw_only=True)
class FaultPlan:
    """Which requests meet which fault. The empty plan: none.

    Requests are numbered from 1 in order of arrival, counting those to ``endpoints`` that were not refused for
    weight, from the moment that the plan is set. ``by_number`` names faults for single requests; of the others a
    ``share`` (0 to 1) meets one of ``kinds``, both drawn from ``seed``. A refused request (400) meets none.
    """

    share: float = 0.0
    kinds: tuple[Fault, ...] = tuple(Fault)
    by_number: Mapping[int, Fault] = field(default_factory=dict)
    seed: int = 0
    endpoints: frozenset[str] = frozenset({"aggTrades"})

    def fault_of(self, number: int) -> Fault | None:
        """The fault that the request of this number meets, or None."""
        if number in self.by_number:
            return self.by_number[number]
        if not self.share or not self.kinds:
            return None
        dice = random.Random(f"{self.seed} {number}")
        return dice.choice(self.kinds) if dice.random() < self.share else None
