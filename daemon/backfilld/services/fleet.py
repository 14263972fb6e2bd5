"""Filling by many machines: tasks are handed out, done again where they fail, and the manifests are brought up to date.

All state is in the bucket: a fleet that was broken off is begun again, and goes on.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from backfilld.core.fleet import FleetTask, MonthFilled
from backfilld.errors import BackfillError, LostTask
from backfilld.ports.fleet import Cluster

MOST_TRIES = 10
"""How often a task is tried. A worker that is killed takes the task with it, whatever the task is."""


@dataclass(slots=True)
class FleetFilled:
    """What became of all tasks. ``failed`` are those that were given up, with the last error of each."""

    done: list[MonthFilled] = field(default_factory=list)
    failed: list[tuple[FleetTask, str]] = field(default_factory=list)
    tries: int = 0

    @property
    def unsealed(self) -> list[tuple[str, str]]:
        """What is not sealed, by name, with the reason."""
        days = [(f"{each.task.instrument} {day}", why) for each in self.done for day, why in each.unsealed]
        conflicts = [
            (f"{each.task.instrument} {day}", "the bucket has other rows")
            for each in self.done
            for day in each.conflicted
        ]
        return sorted([*days, *conflicts, *((task.name, reason) for task, reason in self.failed)])


def run_tasks(
    cluster: Cluster,
    tasks: Sequence[FleetTask],
    on_done: Callable[[MonthFilled], None] = lambda _: None,
    on_look: Callable[[], None] = lambda: None,
) -> FleetFilled:
    """Have all tasks done, each as often as it takes up to MOST_TRIES. ``on_look`` is called again and again, also
    while no task ends."""
    found, waiting, tries = FleetFilled(), deque(tasks), Counter[FleetTask]()
    while waiting or cluster.in_hand:
        for _ in range(min(cluster.room, len(waiting))):
            cluster.submit(waiting.popleft())
        on_look()
        for task, result in cluster.ended():
            if isinstance(result, MonthFilled):
                found.done.append(result)
                on_done(result)
                continue
            found.tries += 1
            tries[task] += not isinstance(result, LostTask)
            if tries[task] < MOST_TRIES:
                waiting.append(task)
            else:
                found.failed.append((task, str(result) or type(result).__name__))
    return found


@dataclass(slots=True)
class OneByOne:
    """A cluster that is this process: tasks are done one after the other."""

    work: Callable[[FleetTask], MonthFilled]
    _waiting: list[FleetTask] = field(default_factory=list)

    @property
    def room(self) -> int:
        """One at a time."""
        return 1 - len(self._waiting)

    @property
    def workers(self) -> int:
        """This process."""
        return 1

    @property
    def in_hand(self) -> int:
        """The one."""
        return len(self._waiting)

    def submit(self, task: FleetTask) -> None:
        """Take it."""
        self._waiting.append(task)

    def ended(self) -> Iterator[tuple[FleetTask, MonthFilled | Exception]]:
        """Do it."""
        task = self._waiting.pop()
        try:
            yield task, self.work(task)
        except BackfillError as error:
            yield task, error
