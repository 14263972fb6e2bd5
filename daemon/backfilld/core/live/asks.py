"""What REST is asked about one instrument that a stream brings, and why."""

from dataclasses import dataclass
from enum import Enum, auto


class Why(Enum):
    """Why REST is asked, most urgent first."""

    HOLE = auto()
    JOIN = auto()
    POLL = auto()
    SILENCE = auto()


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask REST for what follows, from ``first_id`` on."""

    first_id: int
    why: Why
