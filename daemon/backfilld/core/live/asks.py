"""What REST is asked about one instrument that a stream brings, and why."""

from dataclasses import dataclass
from enum import Enum, auto


class Why(Enum):
    """Why REST is asked, most urgent first."""

    HOLE = auto()
    JOIN = auto()
    POLL = auto()
    SILENCE = auto()
    AUDIT = auto()


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask REST for what there is from ``first_id`` on: what comes next, or what went out last and is compared."""

    first_id: int
    why: Why
