"""From settings to a pipeline that can run: the only place that picks implementations."""

import math
import random
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio
from trio_util import AsyncValue

from backfilld.actors.disk import Disk
from backfilld.actors.fetcher import Patience
from backfilld.adapters.binance_rest import opener
from backfilld.adapters.governed import governed
from backfilld.adapters.parquet_store import ParquetStore
from backfilld.adapters.ram_store import RamStore
from backfilld.adapters.state_files import StateFiles
from backfilld.core.backfill.outcome import Outcome
from backfilld.core.live.patience import Times
from backfilld.core.live.reports import LiveStatistics
from backfilld.core.liveness import Waits
from backfilld.core.markets import RULES, Pool, limits_of, markets_of
from backfilld.core.model import Instrument
from backfilld.core.retry import Backoff, Restarts
from backfilld.core.sync.spec import LiveSpec, RunSpec
from backfilld.core.timespan import TimeSpan
from backfilld.core.weight.budget import Budget
from backfilld.core.weight.pauses import MOST_BANS, Pauses
from backfilld.core.weight.server_clock import ServerClock
from backfilld.core.weight.weights import WeightTable
from backfilld.errors import SettingsError, StoreError
from backfilld.pipeline import Pipeline
from backfilld.ports import ArchiveSource, OpenArchive, OpenClient, TradeStore
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.settings.usable import unusable
from backfilld.store.format.dayfile import Encoding
from backfilld.store.governor_state import Remembered, RememberedBudget, load_remembered
from backfilld.store.layout import archive_directory, state_directory
from backfilld.store.lock import CacheLock, Role, locked
from backfilld.supervisor_governor import GovernorParts, governor_parts
from backfilld.supervisor_live import LiveDoor, LiveWorld
from backfilld.supervisor_remote import Remote

if TYPE_CHECKING:
    from backfilld.adapters.object_store import BucketStore
    from backfilld.adapters.remote_days import CachedDaysInBucket

SPARE_FETCHERS = 5
"""Answers that come at the same moment are read while the next requests are on their way; more are of no use. With the
2 ms of a fetcher, 200 pages at 100 ms of latency take 4.7 s instead of 5.1 s, at the same CPU time."""

LONGEST_PAUSE_ONCE_S = 75.0
"""A single run sits out a pause by the exchange up to this, which is a window and a little; a longer one ends it with
"try later"."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A pipeline, where its outcomes come out, and the store behind it."""

    pipeline: Pipeline
    outcomes: trio.MemoryReceiveChannel[Outcome]
    store: TradeStore
    lock: CacheLock | None


@contextmanager
def assembled(
    settings: Settings,
    *,
    once: bool,
    instruments: tuple[Instrument, ...] | None = None,
    window: TimeSpan | None = None,
    locks_as: Role | None = "command",
    uses_archive: bool = True,
) -> Iterator[Assembly]:
    """Build a pipeline from settings. Needs a running trio loop.

    The cache and STATE_DIR are locked meanwhile, ``locks_as`` None if the caller has locked them. Without
    ``uses_archive`` the exchange alone is asked. Raises CacheLocked if another instance holds one of them,
    SettingsError if nothing may be written there, StoreError if a directory cannot be used otherwise.
    """
    with ExitStack() as stack:
        lock = _locked(settings, stack, locks_as) if locks_as and settings.cache_enabled else None
        send_outcome, outcomes = trio.open_memory_channel[Outcome](float("inf"))
        spec = spec_of(settings, once=once, instruments=instruments, window=window)
        spec = spec if uses_archive else replace(spec, uses_archive=False)
        governor, open_client = exchange(
            settings, load_remembered(settings.state_path, _wall_ms()) if settings.cache_enabled else {}
        )
        disk = Disk(is_patient=not once)
        store: TradeStore = parquet_store(settings, lock, once=once) if settings.cache_enabled else RamStore()
        pipeline = Pipeline(
            spec=spec,
            store=store,
            open_client=open_client,
            governor=governor,
            patience=Patience(Backoff(), LONGEST_PAUSE_ONCE_S if once else float("inf"), random.random),
            wall_ms=_wall_ms,
            outcomes=send_outcome,
            open_archive=_archive_opener(settings, disk) if spec.uses_archive else None,
            remote=_remote_of(settings, store, disk),
            restarts=None if once else Restarts(),
            memory=StateFiles(settings.cache_dir, settings.state_path) if settings.cache_enabled else None,
            disk=disk,
            live=_live_world(settings, once=once),
        )
        yield Assembly(pipeline, outcomes, store, lock)


def _locked(settings: Settings, stack: ExitStack, role: Role) -> CacheLock:
    try:
        return stack.enter_context(locked(settings.cache_dir, settings.state_path, role))
    except StoreError as error:
        raise unusable(settings, error) from error


def spec_of(
    settings: Settings,
    *,
    once: bool,
    instruments: tuple[Instrument, ...] | None = None,
    window: TimeSpan | None = None,
) -> RunSpec:
    """The run spec of these settings."""
    return RunSpec(
        instruments=instruments or settings.instrument_list(),
        max_concurrent=settings.max_concurrent,
        window=window,
        days=settings.days,
        # Without files nothing outlives its use: only the days that are asked for stay in memory.
        keep_days=settings.keep_days if settings.cache_enabled else max(1, settings.days),
        once=once,
        poll_s=settings.poll_seconds,
        uncached=not settings.cache_enabled,
        spare_fetchers=min(settings.max_concurrent, SPARE_FETCHERS),
        checkpoint_s=settings.checkpoint_seconds,
        grace_s=settings.grace_seconds,
        weight_share=settings.weight_share,
        client_share=settings.api_weight_share,
        # Its files are put on disk on their way; without a cache nothing may be.
        uses_archive=settings.cache_enabled,
        pulls=bool(settings.remote_url) and settings.remote_pull,
        live=LiveSpec(settings.stream_urls, _live_times(settings)) if settings.live and not once else None,
    )


def _live_times(settings: Settings) -> Times:
    return Times(settings.poll_seconds, settings.live_silence_seconds, settings.live_patience_seconds)


def _live_world(settings: Settings, *, once: bool) -> LiveWorld | None:
    if once or not settings.live:
        return None
    from backfilld.adapters.binance_stream import open_stream  # noqa: PLC0415 - a single run needs no streams
    from backfilld.adapters.live_socket import serve_live  # noqa: PLC0415

    serve = partial(serve_live, state_directory(settings.cache_dir)) if settings.cache_enabled else None
    return LiveWorld(open_stream, AsyncValue(LiveStatistics()), LiveDoor(), serve)


def parquet_store(settings: Settings, lock: CacheLock | None = None, *, once: bool = False) -> ParquetStore:
    """The cache of the settings; with its ``lock`` nothing is saved beside another writer. A run that ends after its
    first round (``once``) writes day files when they are whole, and at its end."""
    hold_lock = (lambda: None) if lock is None else lock.hold
    save_s = math.inf if once and settings.save_seconds else settings.save_seconds
    return ParquetStore(settings.cache_dir, encoding_of(settings), save_s, hold_lock, settings.state_path)


def exchange(settings: Settings, remembered: Remembered) -> tuple[GovernorParts, OpenClient]:
    """A governor that continues from what is remembered, and a function that opens clients of the exchange: they send
    nothing without its permit, so it must run before they are asked."""
    governor = governor_parts(_budgets(settings.weight_share, remembered))
    for budget in governor.budgets.values():
        budget.client_share = settings.api_weight_share
    return governor, governed(opener(settings.urls, settings.request_timeout_seconds), governor.handle)


def object_store_of(settings: Settings, waits: Waits | None = None) -> "BucketStore":
    """The bucket of the settings. Raises SettingsError without REMOTE_URL or without the extra."""
    if not settings.remote_url:
        raise SettingsError("remote_url is empty: name a bucket, such as s3://BUCKET/PREFIX")
    try:
        from backfilld.adapters.object_store import RemoteLocation, open_object_store  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingsError(f"remote_url needs the extra [remote]: pip install 'backfilld[remote]' ({error})") from None

    location = RemoteLocation(
        settings.remote_url,
        settings.remote_endpoint or None,
        settings.remote_region or None,
        allow_http=settings.remote_endpoint.startswith("http://") or settings.remote_allow_http,
        timeout_s=settings.request_timeout_seconds,
        concurrent=settings.remote_concurrent,
    )
    return open_object_store(location, waits)


def remote_days(
    settings: Settings,
    store: ParquetStore | None = None,
    encoding: Encoding | None = None,
    disk_waits: Waits | None = None,
    bucket_waits: Waits | None = None,
) -> "CachedDaysInBucket":
    """The bucket of the settings beside their cache. Raises SettingsError without REMOTE_URL or without the extra."""
    objects = object_store_of(settings, bucket_waits)
    from backfilld.adapters.remote_days import CachedDaysInBucket  # noqa: PLC0415

    return CachedDaysInBucket(
        objects,
        settings.remote_url,
        settings.cache_dir,
        state_directory(settings.cache_dir),
        writes=settings.remote_push,
        saw=(lambda *_: None) if store is None else store.see,
        encoding=encoding or encoding_of(settings),
        waits=disk_waits,
    )


def _remote_of(settings: Settings, store: TradeStore, disk: Disk) -> Remote | None:
    """The bucket for the pipeline; day files that are still to be pushed are not deleted then."""
    if not settings.remote_url or not isinstance(store, ParquetStore):
        return None
    waits = Waits()
    days = remote_days(settings, store, disk_waits=disk.waits, bucket_waits=waits)
    if settings.remote_push:
        store.may_delete = days.is_pushed
    return Remote(days, settings.remote_push, settings.remote_pull, settings.remote_concurrent, waits=waits)


def _archive_opener(settings: Settings, disk: Disk) -> OpenArchive:
    def open_it() -> AbstractAsyncContextManager[ArchiveSource]:
        from backfilld.adapters.binance_archive import open_archive  # noqa: PLC0415 - most starts need no archive

        return open_archive(settings.archive_url, archive_directory(settings.cache_dir), waits=disk.waits)

    return open_it


def _budgets(share: float, remembered: Remembered) -> dict[Pool, Budget]:
    now_ms, wall_ms = trio.current_time() * 1000, _wall_ms()
    clock = ServerClock.assumed(now_ms, wall_ms)
    budgets: dict[Pool, Budget] = {}
    for pool in Pool:
        kept, rules = remembered.get(pool, RememberedBudget()), RULES[markets_of(pool)[0]]
        budgets[pool] = Budget(
            limits_of(pool),
            share,
            clock,
            weights=WeightTable(rules.weights, kept.learned),
            pauses=_pauses(kept, now_ms - wall_ms),
            met={name: (limit, until_ms + now_ms - wall_ms) for name, (limit, until_ms) in kept.met.items()},
        )
    return budgets


def _pauses(kept: RememberedBudget, local_minus_wall_ms: float) -> Pauses:
    """The pauses that a process before us was given, by the clock of this one."""
    bans = [end_ms + local_minus_wall_ms for end_ms in kept.bans_ms[-MOST_BANS:]]
    if kept.paused_until_ms is None:
        return Pauses(bans)
    return Pauses(bans, until_ms=kept.paused_until_ms + local_minus_wall_ms, reason=kept.reason)


def _wall_ms() -> float:
    return time.time() * 1000
