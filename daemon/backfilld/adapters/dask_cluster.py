"""Dask distributed as the cluster of a fleet. The only module that knows it.

Owns the connection to the scheduler, and what becomes of tasks when it breaks: they are reported as lost, and whoever
hands out tasks does so again. Credentials are not sent: workers have their own.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import distributed

from backfilld.core.fleet import FleetTask, MonthFilled
from backfilld.errors import LostTask, RemoteUnreachable

CONNECT_S, PATIENCE_S = 10.0, 600.0
"""One try to connect, and for how long a scheduler is waited for that is gone."""

_open_client: Any = distributed.Client
"""Dask has no types."""

TICK_S, LOOK_S = 0.5, 0.02
PER_WORKER = 4
"""Tasks that are handed out for each worker, so that none waits for the next; the scheduler's load stays small,
however many tasks there are."""

IP = {"IP": 1.0}
"""A worker has one of these, and a task takes it: one task per address of the internet."""


@dataclass(slots=True)
class DaskCluster:
    """The workers of a scheduler. Raises RemoteUnreachable if the scheduler cannot be reached for PATIENCE_S."""

    address: str
    work: Callable[..., MonthFilled]
    arguments: tuple[Any, ...] = ()
    patience_s: float = PATIENCE_S
    _client: Any = None
    _futures: dict[Any, FleetTask] = field(default_factory=dict)
    _unsent: list[FleetTask] = field(default_factory=list)
    _number: int = 0
    _workers: int = 0
    _looked_at: float = float("-inf")

    @property
    def room(self) -> int:
        """How many more tasks the workers should have."""
        if self._futures and self._is_lost():
            return 0
        return max(0, PER_WORKER * max(1, self.workers) - len(self._futures))

    @property
    def workers(self) -> int:
        """How many workers the scheduler has, as of its last answer."""
        now = time.monotonic()
        if now - self._looked_at > TICK_S:
            self._looked_at = now
            with suppress(OSError, TimeoutError, ValueError):
                self._workers = len(self._connected().scheduler_info(n_workers=-1)["workers"])
        return self._workers

    @property
    def in_hand(self) -> int:
        """How many tasks are with the scheduler."""
        return len(self._futures) + len(self._unsent)

    def submit(self, task: FleetTask) -> None:
        """Hand it out, under a name of its own: another fleet may have the same task."""
        self._number += 1
        key = f"{task.name} {id(self):x}-{self._number}"
        try:
            future = self._connected().submit(
                self.work, task, *self.arguments, key=key, resources=IP, pure=False, retries=0
            )
        except RemoteUnreachable:
            raise
        except Exception:  # noqa: BLE001 - a client that has just lost its scheduler raises nothing more exact
            self._unsent.append(task)
        else:
            self._futures[future] = task

    def ended(self) -> Iterator[tuple[FleetTask, MonthFilled | Exception]]:
        """The tasks that are done, failed or lost."""
        unsent, self._unsent = self._unsent, []
        for task in unsent:
            yield task, LostTask("the scheduler did not take it")
        if self._is_lost():
            yield from self._lose_all()
            return
        deadline = time.monotonic() + TICK_S
        while all(each.status == "pending" for each in self._futures) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        for future in [each for each in self._futures if each.status != "pending"]:
            yield self._futures.pop(future), self._result(future)

    def close(self) -> None:
        """Let go of the scheduler."""
        if self._client is not None:
            with suppress(Exception):
                self._client.close(timeout=2)
            self._client = None

    def _result(self, future: Any) -> MonthFilled | Exception:
        if future.status in {"cancelled", "lost"}:
            return LostTask("the scheduler has lost it")
        try:
            result: MonthFilled = future.result(timeout=CONNECT_S)
        except (TimeoutError, OSError, distributed.CancelledError):
            return LostTask("its result was lost")
        except Exception as error:  # noqa: BLE001 - whatever a worker raised comes back
            return error
        finally:
            future.release()
        return result

    def _is_lost(self) -> bool:
        return self._client is None or self._client.status != "running"

    def _lose_all(self) -> Iterator[tuple[FleetTask, Exception]]:
        self.close()
        tasks, self._futures = list(self._futures.values()), {}
        for task in tasks:
            yield task, LostTask("the connection to the scheduler is gone")

    def _connected(self) -> Any:
        """The client; a scheduler that is gone is waited for."""
        if self._client is not None and self._client.status == "running":
            return self._client
        if self._futures:
            raise TimeoutError
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                self._client = _open_client(self.address, timeout=CONNECT_S, set_as_default=False)
            except (OSError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise RemoteUnreachable(f"{self.address}: no scheduler answers") from error
                time.sleep(TICK_S)
            else:
                return self._client
