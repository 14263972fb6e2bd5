"""Tasks of a fleet are done, whatever becomes of workers and schedulers on the way."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest

from backfilld.core.fleet import FleetTask, MonthFilled
from backfilld.errors import LostTask, RemoteUnreachable
from backfilld.services.fleet import MOST_TRIES, run_tasks
from tests.fakes import BTC

TASKS = [FleetTask(BTC, date(2025, month, 1), 1, 10) for month in (1, 2, 3)]


@dataclass
class Scripted:
    """A cluster that answers as scripted, and then with success."""

    answers: deque[Exception] = field(default_factory=deque)
    submitted: list[FleetTask] = field(default_factory=list)
    _waiting: deque[FleetTask] = field(default_factory=deque)
    room: int = 2
    workers: int = 1

    @property
    def in_hand(self) -> int:
        return len(self._waiting)

    def submit(self, task: FleetTask) -> None:
        self.submitted.append(task)
        self._waiting.append(task)

    def ended(self) -> Iterator[tuple[FleetTask, MonthFilled | Exception]]:
        task = self._waiting.popleft()
        yield task, self.answers.popleft() if self.answers else MonthFilled(task)


def test_a_lost_task_is_handed_out_again_as_often_as_it_takes() -> None:
    cluster, looks = Scripted(deque([LostTask("gone")] * 30)), []
    found = run_tasks(cluster, TASKS, on_look=lambda: looks.append(cluster.in_hand))
    assert {each.task for each in found.done} == set(TASKS)
    assert (found.failed, found.tries) == ([], 30)
    assert len(looks) == 33


def test_a_task_that_fails_is_given_up_with_its_reason() -> None:
    cluster = Scripted(deque([RemoteUnreachable("s3://tape: no answer")] * MOST_TRIES))
    cluster.room = 1
    found = run_tasks(cluster, TASKS[:1])
    assert found.failed == [(TASKS[0], "s3://tape: no answer")]
    assert found.unsealed == [("spot:BTCUSDT 2025-01", "s3://tape: no answer")]


class DyingClient:
    """Dask's client as it is right after its scheduler has gone, and still looks well."""

    status = "running"

    def scheduler_info(self, **_: object) -> dict[str, Any]:
        return {"workers": {"one": {}}}

    def submit(self, *_: object, **__: object) -> None:
        raise Exception("Tried sending message after closing.  Status: 'closed'")  # noqa: TRY002 - as Dask does


def test_a_task_that_the_scheduler_does_not_take_is_lost_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    dask_cluster = pytest.importorskip("backfilld.adapters.dask_cluster")
    monkeypatch.setattr(dask_cluster, "_open_client", lambda *_, **__: DyingClient())
    cluster = dask_cluster.DaskCluster("tcp://127.0.0.1:1", MonthFilled)
    assert (cluster.room, cluster.workers) == (dask_cluster.PER_WORKER, 1)
    cluster.submit(TASKS[0])
    assert cluster.in_hand == 1
    ((task, result),) = cluster.ended()
    assert (task, type(result), cluster.in_hand) == (TASKS[0], LostTask, 0)
