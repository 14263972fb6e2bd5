"""Intervals and quotas: so many units in each window of so many seconds, minutes, hours or days.

Owns how they are written: in exchangeInfo, in the used-weight header, on a command line. Must not count anything.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class IntervalUnit(StrEnum):
    """The units of a limit's interval, as exchangeInfo writes them."""

    SECOND = "SECOND"
    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"


_UNIT_MS = {
    IntervalUnit.SECOND: 1_000,
    IntervalUnit.MINUTE: 60_000,
    IntervalUnit.HOUR: 3_600_000,
    IntervalUnit.DAY: 86_400_000,
}
_UNIT_OF_LETTER = {unit.value[0]: unit for unit in IntervalUnit}


@dataclass(frozen=True, slots=True)
class Interval:
    """The length of a limit's window: ``Interval(1, MINUTE)`` is written ``1M``."""

    num: int
    unit: IntervalUnit

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read ``1M`` or ``10S``. Raises ValueError naming the rule."""
        match = re.fullmatch(r"([1-9]\d*)([SMHD])", text.upper())
        if match is None:
            raise ValueError(f"interval {text!r}: write a number and one of S M H D, such as 1M or 10S")
        return cls(int(match[1]), _UNIT_OF_LETTER[match[2]])

    @property
    def ms(self) -> int:
        """Length in milliseconds."""
        return self.num * _UNIT_MS[self.unit]

    @property
    def header_suffix(self) -> str:
        """How the used-weight header names it: ``1m``, ``10s``."""
        return f"{self.num}{self.unit.value[0].lower()}"

    def __str__(self) -> str:
        return f"{self.num} {self.unit}"


MINUTE = Interval(1, IntervalUnit.MINUTE)


@dataclass(frozen=True, slots=True)
class Quota:
    """At most ``limit`` units in each window of ``interval``."""

    limit: int
    interval: Interval = MINUTE
