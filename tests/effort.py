"""How far the long searches go: a part of the way in each run, the whole way in ``make test-thorough``."""

import functools
import os
import sys
from collections.abc import Callable

THOROUGH = "THOROUGH" in os.environ


def effort(quick: int, thorough: int) -> int:
    """How many cases to try in this run."""
    return thorough if THOROUGH else quick


def traced_in_part(test: Callable[..., object], cases: int) -> Callable[..., object]:
    """The body of a search, of which coverage sees the first cases only: to look at each line doubles its time."""
    tried = 0

    @functools.wraps(test)
    def body(*arguments: object, **named: object) -> object:
        nonlocal tried
        tried += 1
        if tried > cases:
            sys.settrace(None)
        return test(*arguments, **named)

    return body
