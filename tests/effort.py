"""How far the long searches go: a part of the way in each run, the whole way in ``make test-thorough``."""

import os

THOROUGH = "THOROUGH" in os.environ


def effort(quick: int, thorough: int) -> int:
    """How many cases to try in this run."""
    return thorough if THOROUGH else quick
