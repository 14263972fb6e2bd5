"""The ways in which a real exchange, or the network before it, answers wrongly, and a plan of when.

Owns the names of the faults and the decision which request meets which. Pure: the n-th request of a plan meets the
same fault in every run. Must not know how a fault is carried out.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """One wrong answer. The first group replaces the answer, the second its rows, the third how it is sent; the others
    are HOSTILE_FAULTS: answers that look right and are not, headers, bodies."""

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

    EMPTY_PAGE = "empty_page"
    """200 with no row, whatever the exchange has."""
    SHORT_PAGE = "short_page"
    """The first half of the rows."""
    LYING_ID = "lying_id"
    """One row with an id of 10**12, 2**53 or 2**63 - 1."""
    INVALID_SYMBOL = "invalid_symbol"
    """-1121 for a symbol that is listed."""
    STATUS_302 = "status_302"
    STATUS_404_HTML = "status_404_html"
    STATUS_400_TEXT = "status_400_text"
    """400 without a JSON body."""

    USED_WEIGHT = "used_weight"
    """The right answer with a used weight that cannot be: 5000, of 5000 digits, negative, no number."""
    FOREIGN_WEIGHTS = "foreign_weights"
    """The right answer with 1500 headers of used weight for intervals that are not announced."""
    WRONG_DATE = "wrong_date"
    """The right answer with a Date of another year (1900 to 9999), or with none that can be read."""
    CHARSET = "charset"
    """The right answer in a charset that is not its own, or does not exist."""
    RETRY_AFTER = "retry_after"
    """429 with a Retry-After of any size: up to 400 digits, negative, a date, no number."""
    CHARSET_BAN = "charset_ban"
    """418 with Retry-After 3600 in a charset that cannot be read."""

    GZIP_BOMB = "gzip_bomb"
    """A gigabyte of blanks in one, two or three codings of gzip."""
    ENDLESS_BODY = "endless_body"
    """A chunked body that does not end."""
    NESTED_BODY = "nested_body"
    """JSON nested 200,000 deep."""
    HUGE_NUMBERS = "huge_numbers"
    """One row with numbers of up to 5000 digits."""
    CONTROL_TEXT = "control_text"
    """400 whose message holds newlines, terminal escapes and markup; some are 400 kB long."""
    ABSURD_LIMITS = "absurd_limits"
    """An exchangeInfo with no limit, 20,000 of them, or limits and intervals that cannot be."""


HOSTILE_FAULTS = tuple(Fault)[tuple(Fault).index(Fault.EMPTY_PAGE) :]
"""Those that a broken or hostile server brings about, and no exchange that works; a plan must name them."""

ORDINARY_FAULTS = tuple(fault for fault in Fault if fault not in HOSTILE_FAULTS)
"""Those that every client meets in time."""

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
    kinds: tuple[Fault, ...] = ORDINARY_FAULTS
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
