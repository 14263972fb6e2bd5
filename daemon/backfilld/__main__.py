"""The entry point: ``backfilld`` and ``python -m backfilld``."""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

ENVIRONMENT = {
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:50,muzzy_decay_ms:0",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}
"""Libraries read these when they are imported. The allocators of polars and Arrow give freed memory back to the system
soon: 75 MB less at a day of a million trades, for 2 % more CPU (measured). With 0, at once, the peak is 20 MB higher
again. pydantic looks for no plugins: that takes the longer, the more packages are installed."""

EXIT_INTERRUPTED = 130
"""A shell's code for an end by Ctrl-C."""


def main() -> None:
    """Run the command line.

    Imported modules live as long as the process, so collecting garbage among them is in vain: it costs a fifth of a
    restart. The commands that run for long switch the collector on again.
    """
    gc.disable()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if sys.argv[1:2] in (["run"], ["fill"]):
        # SIGHUP would end the process until the daemon can apply it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _open_standard_streams()
    try:
        from backfilld.surfaces.cli import main as run_command_line  # noqa: PLC0415 - after the lines above

        run_command_line()
    except KeyboardInterrupt:
        _end(EXIT_INTERRUPTED)
    except BaseExceptionGroup as group:
        # Ctrl-C where it was raised in a task.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        _end(EXIT_INTERRUPTED)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            _end(end.code or 0)
        raise


def _open_standard_streams() -> None:
    """Put ``/dev/null`` where a stream was closed (``>&-``): the next file that is opened would take its place, and the
    log would be written into it."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            stream = open(descriptor, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _has_threads() -> bool:
    """Whether threads of Python run beside this one."""
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


def _end(code: int) -> NoReturn:
    """End the process.

    Threads that outlive the interpreter now and then abort it while it is torn down: those of the object store's
    runtime, and one of ours that waits for the disk. A command that has done everything would then end with SIGABRT.
    Without any the interpreter collects garbage again while it is torn down; a look at all that was imported would cost
    a seventh of a short command.
    """
    if "obstore" in sys.modules or _has_threads():
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(code)
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
