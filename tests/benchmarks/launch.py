"""Start a command, wait for it, and write what it cost: ``launch.py REPORT COMMAND...``. Imports next to nothing, so
that the child's peak memory is the child's."""

import json
import os
import sys
import time


def main(report: str, *command: str) -> int:
    """Run the command with our standard streams; return its exit code."""
    began = time.perf_counter()
    child = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    figures = {"seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
    with open(report, "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would be an import more
        json.dump(figures, file)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
