"""How log events are written: JSON lines for machines, coloured lines for a terminal. Owns structlog's
configuration."""

import logging
import sys
from typing import Literal

import structlog

_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


class _Stdout:
    """Writes to whatever sys.stdout is at that moment, so that lines stand above a progress bar."""

    def msg(self, line: str) -> None:
        print(line, flush=True)

    log = debug = info = warning = error = critical = exception = msg


def configure_logs(form: Literal["auto", "console", "json"], level: str) -> None:
    """Write events of ``level`` and above to stdout; ``auto`` is console on a terminal and JSON lines elsewhere."""
    console = form == "console" or (form == "auto" and sys.stdout.isatty())
    renderers: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
        if console
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]
    )
    structlog.configure(
        processors=[*_PROCESSORS, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _Stdout(),
        cache_logger_on_first_use=False,
    )
