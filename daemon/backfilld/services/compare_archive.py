"""Comparing the days of a cache with the archive, several downloads at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from backfilld.adapters.archive_comparison import Comparison, compared
from backfilld.adapters.binance_archive import open_archive
from backfilld.core.replication import DayName
from backfilld.services.progress import Progress, Watch, unwatched
from backfilld.services.side_by_side import side_by_side
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.store.manager import manager_of
from backfilld.store.upkeep.inspection import Inspected

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
    found: dict[DayName, Comparison] = {}
    with TemporaryDirectory(prefix="backfilld-archive-") as directory:
        async with open_archive(settings.archive_url, Path(directory)) as source:

            async def compare(each: Inspected) -> None:
                manager = manager_of(settings.cache_dir, each.instrument, encoding)
                found[each.instrument, each.day] = await compared(source, manager, each)
                watch(Progress("compare", f"{each.instrument} {each.day}", 1, len(over)))

            await side_by_side(over, AT_ONCE, compare)
    return tuple(found[each.instrument, each.day] for each in over)
