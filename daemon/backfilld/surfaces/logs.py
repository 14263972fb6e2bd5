"""How log events are written: JSON lines for machines, sentences for people on a terminal. Owns structlog's
configuration."""

import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, TextIO

import structlog

from backfilld.core.monitor.warned import RecentWarnings
from backfilld.surfaces.log_outlet import LogOutlet
from backfilld.surfaces.log_repeats import Repeats
from backfilld.surfaces.log_sentences import QUIET, sentence, subject
from backfilld.surfaces.words import fitted, has_colours, say

RECENT = RecentWarnings()
"""The newest warnings and errors of this process, for those who look at it and not at its log."""

REPEATS = Repeats(time.monotonic)
"""The outages that this process is in, so that each is logged once."""

_THRESHOLD = [logging.INFO]
"""The level in force. Loggers that were bound before it changed follow it too."""

FIRST = ("timestamp", "level", "event")
"""A JSON line begins with these."""

_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s, by structlog's names."""


def _drop_below_level(_: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if logging.getLevelName(name.upper()) < _THRESHOLD[0]:
        raise structlog.DropEvent
    return event


def _count(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    RECENT.count(event["event"])
    return event


def _remember(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    RECENT.add(event)
    return event


def _ordered(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**{name: event[name] for name in FIRST}, **event}


class Sentences:
    """A structlog renderer for people: the time (UTC), what the line is about, a sentence. A line that is longer than
    the terminal goes on below, indented."""

    def __init__(self, *, colours: bool, quiet: frozenset[str] = QUIET) -> None:
        self._colours = colours
        self._quiet = quiet

    def __call__(self, _: object, name: str, event: structlog.typing.EventDict) -> str:
        """The lines of an event."""
        if event["event"] in self._quiet and _THRESHOLD[0] > logging.DEBUG:
            raise structlog.DropEvent
        parts = (event["timestamp"][11:19], _MARKS.get(name, ""), subject(event), sentence(event))
        text = " ".join(part for part in parts if part)
        if sys.stdout.isatty():
            text = fitted(text, indent=_INDENT)
        return self._coloured(text, name)

    def _coloured(self, text: str, name: str) -> str:
        colour = _COLOURS.get(name) if self._colours else None
        return f"{colour}{text}\x1b[0m" if colour else text


_INDENT = " " * 9
_MARKS = {"warning": "warning:", "error": "error:", "critical": "error:"}
_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}


class _Stdout:
    """Writes to whatever sys.stdout is at that moment, so that lines stand above a progress bar.

    Where it is not a terminal, a reader that stands still does not stop the daemon.
    """

    def __init__(self) -> None:
        self._outlet: LogOutlet | None = None

    def msg(self, line: str) -> None:
        stdout = sys.stdout
        if stdout is None or stdout.isatty() or stdout is not sys.__stdout__:
            print(line, flush=True)
            return
        if self._outlet is None:
            self._outlet = LogOutlet(sys.stdout.fileno())
        self._outlet.put(f"{line}\n".encode())
        if lines := self._outlet.left_out():
            log = structlog.get_logger()
            log.warning("log_lines_left_out", lines=lines)

    log = debug = info = warning = error = critical = exception = msg

    def finish(self) -> None:
        """Give a reader that stands still a last chance."""
        if self._outlet is not None:
            with suppress(OSError):
                self._outlet.finish()


_STDOUT = _Stdout()


def finish_logs() -> None:
    """Write what still waits for a reader, for a second at most."""
    _STDOUT.finish()


def configure_logs(form: Literal["auto", "console", "json"], level: str, *, once: bool = False) -> None:
    """Write events of ``level`` and above to stdout; ``auto`` is console on a terminal and JSON lines elsewhere.

    A run that ends ``once`` it is complete says at its end, on stderr, why it is not: the sentence is not doubled.

    Where stdout is the journal, each line begins with its priority as sd-daemon(3) has it, which the journal takes off.
    """
    console = form == "console" or (form == "auto" and sys.stdout.isatty())
    renderers: list[structlog.typing.Processor] = (
        [_sentences(once=once)]
        if console
        else [
            structlog.processors.dict_tracebacks,
            _ordered,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    )
    if _is_journal(sys.stdout, os.environ):
        renderers = [_prioritized(renderers)]
    set_level(level)
    REPEATS.keeps_outcomes = once
    structlog.configure(
        processors=[
            _count,
            structlog.contextvars.merge_contextvars,
            REPEATS,
            _drop_below_level,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _remember,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: _STDOUT,
        cache_logger_on_first_use=False,
    )


def _sentences(*, once: bool) -> Sentences:
    colours = has_colours()
    return Sentences(colours=colours, quiet=QUIET | {"backfill_incomplete"} if once else QUIET)


def set_level(level: str) -> None:
    """Write events of ``level`` and above from now on."""
    _THRESHOLD[0] = logging.getLevelName(level.upper())


def _prioritized(renderers: list[structlog.typing.Processor]) -> structlog.typing.Processor:
    def render(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        rendered: object = event
        for each in renderers:
            rendered = each(logger, name, rendered)  # type: ignore[arg-type]
        return f"<{_PRIORITIES.get(name, 6)}>{rendered}"

    return render


def complain(sentence: str) -> None:
    """Say on stderr why the command ends otherwise than it should; the journal marks it as an error."""
    priority = f"<{_PRIORITIES['error']}>" if _is_journal(sys.stderr, os.environ) else ""
    text = f"{priority}backfilld: {sentence}"
    say(text, err=True)


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether this is the stream that JOURNAL_STREAM names (systemd.exec(5))."""
    try:
        out = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{out.st_dev}:{out.st_ino}"
