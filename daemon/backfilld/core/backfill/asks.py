"""Which questions may be put to the exchange at a time."""

from enum import Enum, auto


class Asks(Enum):
    """Each includes those before it."""

    NEWEST = auto()
    """The newest trade of all, which is the same whatever day it is."""
    LOCATING = auto()
    """What only locates."""
    ALL = auto()
    """Rows as well."""
