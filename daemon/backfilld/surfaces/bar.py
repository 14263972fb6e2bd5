"""A progress bar on a terminal's stderr for use cases that take a while; nothing if stderr is not a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from backfilld.services.progress import Progress, Watch, unwatched


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Watch]:
    """A bar for each phase that is reported, removed at the end; none if ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield unwatched
        return
    from rich.console import Console  # noqa: PLC0415 - rich takes a tenth of a second, and a pipe shows no bar
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as Bars  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, object] = {}

        def watch(step: Progress) -> None:
            task = tasks.get(step.phase)
            if task is None:
                task = tasks[step.phase] = bars.add_task(step.phase, total=step.total)
            bars.update(task, advance=step.amount, description=f"{step.phase} {step.what}")  # type: ignore[arg-type]

        yield watch
