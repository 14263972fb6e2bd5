"""What a fleet needs of the machines that do its tasks."""

from collections.abc import Iterator
from typing import Protocol

from backfilld.core.fleet import FleetTask, MonthFilled


class Cluster(Protocol):
    """Where tasks run."""

    @property
    def room(self) -> int:
        """How many more tasks are to be handed out now."""
        ...

    @property
    def workers(self) -> int:
        """How many there are that do tasks."""
        ...

    @property
    def in_hand(self) -> int:
        """How many tasks are handed out."""
        ...

    def submit(self, task: FleetTask) -> None:
        """Hand out a task."""
        ...

    def ended(self) -> Iterator[tuple[FleetTask, MonthFilled | Exception]]:
        """The tasks that ended since, after a short wait if there are none."""
        ...
