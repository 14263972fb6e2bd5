"""``python -m tests.benchmarks.steps COMMAND...``: the command line of backfilld; then, as the last line on stderr, the
longest step of its event loop in ms, as JSON.

By the CPU time of the loop's thread: by the clock a step is also as long as others hold the processor.
"""

import json
import sys
import time
from functools import partial

import trio

from backfilld.__main__ import main


class Steps(trio.abc.Instrument):
    """The longest step so far, in seconds of CPU time."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began_s = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        """A task goes on."""
        self._began_s = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        """It waits again."""
        self.longest_s = max(self.longest_s, time.thread_time() - self._began_s)


if __name__ == "__main__":
    steps = Steps()
    trio.run = partial(trio.run, instruments=[steps])  # type: ignore[assignment]
    try:
        main()
    finally:
        sys.stderr.write(json.dumps({"longest_step_ms": 1000 * steps.longest_s}) + "\n")
