"""A stream of our own, where no daemon runs: a pipeline for one instrument in the background.

Owns the life of that pipeline, which ends when a daemon wants the cache. It is a system task, because a generator that
is left at a yield cannot have a nursery around it; nothing that goes wrong in it goes anywhere but to its reader.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import trio

from backfilld.actors.live_messages import Ended, Frame
from backfilld.adapters.library_log import library_logging
from backfilld.assembly import Assembly, assembled
from backfilld.core.model import Instrument
from backfilld.errors import BackfillError, RequestRejected, SettingsError
from backfilld.settings import Settings
from backfilld.supervisor import cause_of, run_pipeline

LOOK_S = 0.05
YIELD_LOOK_S = 0.5
"""Between looks for a daemon that wants the cache."""


@asynccontextmanager
async def own_stream(
    settings: Settings, instrument: Instrument, from_id: int | None
) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames of a pipeline that runs while the context is open. Raises CacheLocked, StoreError, SettingsError, and
    RequestRejected for a symbol that the exchange does not list."""
    if not (settings.live and settings.cache_enabled):
        raise SettingsError("no daemon runs, and following without one needs live = true and cache_enabled = true")
    with library_logging(), assembled(settings, once=False, instruments=(instrument,), locks_as="follower") as assembly:
        run = _Run(assembly)
        trio.lowlevel.spawn_system_task(run.run)
        trio.lowlevel.spawn_system_task(run.yield_to_daemon)
        try:
            async with aclosing(run.frames(instrument, from_id)) as frames:
                yield frames
        finally:
            assembly.pipeline.stop.set()
            with trio.CancelScope(shield=True), trio.move_on_after(settings.grace_seconds + 1):
                await run.done.wait()
            run.scope.cancel()


class _Run:
    def __init__(self, assembly: Assembly) -> None:
        self._pipeline = assembly.pipeline
        self._lock = assembly.lock
        self._outcomes = assembly.outcomes
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Run the pipeline; keep what goes wrong."""
        try:
            with self.scope:
                await run_pipeline(self._pipeline)
        except BaseExceptionGroup as group:
            self._failure = cause_of(group)
        except Exception as error:  # noqa: BLE001 - raised again where the frames are read
            self._failure = error
        finally:
            self.done.set()

    async def yield_to_daemon(self) -> None:
        """Stop once a daemon waits for the cache."""
        while not self.done.is_set():
            with trio.move_on_after(YIELD_LOOK_S):
                await self.done.wait()
            if self._lock is not None and self._lock.is_wanted():
                self._pipeline.stop.set()

    def _refuse_unknown(self) -> None:
        """Raise RequestRejected for a symbol that the exchange does not list: the pipeline ended for it."""
        if not self._outcomes.statistics().current_buffer_used:
            return
        outcome = self._outcomes.receive_nowait()
        if isinstance(outcome.error, RequestRejected):
            sentence = f"{outcome.instrument}: {'; '.join(outcome.reasons)}"
            raise RequestRejected(sentence, status=outcome.error.status, code=outcome.error.code)

    async def frames(self, instrument: Instrument, from_id: int | None) -> AsyncGenerator[Frame, None]:
        """The frames of the pipeline; what stopped it is raised."""
        live = self._pipeline.live
        if live is None:
            raise SettingsError("live = false: there is no stream to follow")
        while not self.done.is_set():
            frames = live.door.subscribe(instrument, from_id)
            if frames is None:
                await trio.sleep(LOOK_S)
                continue
            async with frames:
                async for frame in frames:
                    if isinstance(frame, Ended):
                        self._refuse_unknown()
                        yield frame
                        return
                    yield frame
        if isinstance(self._failure, BackfillError):
            raise self._failure
        self._refuse_unknown()
        if self._failure is not None:
            yield Ended(None, f"the pipeline failed: {self._failure!r}")
