"""The entry point: ``backfilld`` and ``python -m backfilld``."""

import gc
import signal
import sys


def main() -> None:
    """Run the command line.

    Imported modules are made once and kept, so collecting garbage among them is in vain: it costs a fifth of a restart.
    The commands that run for long switch the collector on again.
    """
    gc.disable()
    if sys.argv[1:2] in (["run"], ["fill"]):
        # Until it can be heeded; it would end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from backfilld.surfaces.cli import main as run_command_line  # noqa: PLC0415 - after the line above

    run_command_line()


if __name__ == "__main__":
    main()
