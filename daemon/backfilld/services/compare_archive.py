"""Comparing the days of a cache with the archive, several downloads at a time."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from backfilld.adapters.archive_comparison import Comparison, compared
from backfilld.adapters.binance_archive import BinanceArchive, open_archive
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.store.format.dayfile import Encoding
from backfilld.store.layout import instrument_directory
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.inspection import Inspected
from backfilld.supervisor import cause_of

AT_ONCE = 2
"""How many days are compared at a time: each may download a day and store a piece of it in memory."""


async def compare_with_archive(
    settings: Settings, days: Sequence[Inspected], watch: Watch = unwatched
) -> tuple[Comparison, ...]:
    """Compare the days that are over with their published files, in the order given.

    A file is downloaded, to a temporary directory, only where its checksum does not answer. Raises ExchangeError for an
    archive that cannot be reached.
    """
    encoding = encoding_of(settings)
    today = datetime.now(UTC).date()
    over = [each for each in days if each.day < today and not each.is_locked]
    found: dict[int, Comparison] = {}
    numbered = enumerate(over)
    watch_one = partial(_report, watch, len(over))
    with TemporaryDirectory(prefix="backfilld-archive-") as directory:
        try:
            async with open_archive(settings.archive_url, Path(directory)) as source, trio.open_nursery() as nursery:
                for _ in range(AT_ONCE):
                    nursery.start_soon(_compare_some, settings.cache_dir, encoding, source, numbered, found, watch_one)
        except BaseExceptionGroup as group:
            raise cause_of(group) from None
    return tuple(found[number] for number in range(len(over)))


def _report(watch: Watch, total: int, day: Inspected) -> None:
    watch(Progress("compare", f"{day.instrument} {day.day}", 1, total))


async def _compare_some(
    cache_dir: Path,
    encoding: Encoding,
    source: BinanceArchive,
    days: Iterator[tuple[int, Inspected]],
    found: dict[int, Comparison],
    report: "partial[None]",
) -> None:
    """Compare day after day, as long as there are any."""
    for number, each in days:
        manager = BackfillCacheManager(instrument_directory(cache_dir, each.instrument), each.instrument, encoding)
        found[number] = await compared(source, manager, each)
        report(each)
