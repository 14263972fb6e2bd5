"""How fast a process starts that runs for long, and what it sets up once it has imported what it needs.

Imports next to nothing: it stands in the way of ``--help``.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MOST_LOOKED_AT = 5_000
"""Where more objects outlive a collection of garbage, the next ones do not look at them: the state of a thousand
instruments would hold the loop for a tenth of a second each time."""

THRESHOLDS = 700, 5, 1
"""How often garbage is collected, as ``gc.set_threshold`` takes it. A full collection comes with 8,400 more objects,
and looks at these and at MOST_LOOKED_AT: 2 to 3 ms. By Python's own numbers it would come with 77,000."""

_OLDEST = 2
"""The number of the last generation, which a full collection looks at."""

UNUSED = ("h2", "numpy", "pygments", "rich")
"""What Arrow, httpcore, httpx and structlog import where it is installed, and use for nothing that a daemon asks of
them."""


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Import what is imported in the block as if these packages were not installed. Afterwards they are there again."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None refuses an import, as documented
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name) is None:
                del sys.modules[name]


def import_daemon() -> None:
    """Import what a daemon runs on, without the packages that it does not use: a quarter of a second less."""
    with without(*UNUSED):
        import httpcore  # noqa: F401, PLC0415 - httpx imports it with the first connection
        import structlog  # noqa: F401, PLC0415

        import backfilld.surfaces.running  # noqa: F401, PLC0415


def settle() -> None:
    """Collect garbage again, but never look at what the imports made; give Arrow's freed buffers back to the system."""
    import pyarrow as pa  # noqa: PLC0415

    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
    gc.callbacks.append(_let_survivors_be)
    pa.set_memory_pool(pa.system_memory_pool())


def _let_survivors_be(phase: str, collection: dict[str, int]) -> None:
    """After a full collection, leave out what it kept, if that is much. It is freed all the same once nothing refers to
    it; only circles that become garbage later stay. Each time takes MOST_LOOKED_AT new objects that last, so that a
    daemon that does not grow never comes here."""
    if phase == "stop" and collection["generation"] == _OLDEST and len(gc.get_objects()) > MOST_LOOKED_AT:
        gc.freeze()
