"""Where events go while a program that is not ours calls the library: never to stdout.

Owns structlog's configuration for the time of such a call. A program that has configured structlog keeps its own.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_CALLS: set[object] = set()
"""The calls that are going on, in any thread; the last one to end puts structlog back."""


def _logger(*_: object) -> logging.Logger:
    return logging.getLogger("backfilld")


@contextmanager
def library_logging() -> Iterator[None]:
    """Send events to the standard library's logger ``backfilld`` unless the program has configured structlog."""
    if not _CALLS and structlog.is_configured():
        yield
        return
    call = object()
    _CALLS.add(call)
    _configure()
    try:
        yield
    finally:
        _CALLS.discard(call)
        if not _CALLS and structlog.get_config()["logger_factory"] is _logger:
            structlog.reset_defaults()


def _configure() -> None:
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=_logger,
        cache_logger_on_first_use=False,
    )
