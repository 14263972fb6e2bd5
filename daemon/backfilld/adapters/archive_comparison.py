"""Comparing a day on disk with what the archive publishes of it, at no request weight and mostly without a download.

Owns what is asked of the archive for it, and the thread hop; what counts as a difference is the cache's business.
"""

from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Literal

import trio

from backfilld.adapters.binance_archive import BinanceArchive
from backfilld.adapters.threads import in_thread
from backfilld.core.model import Instrument
from backfilld.errors import ArchiveError, DayDamaged, UnexpectedAnswer
from backfilld.ports import Published
from backfilld.store.manager import BackfillCacheManager
from backfilld.store.upkeep.comparison import NO_DIFFERENCES, Differences, compare_day, is_copy, is_republished
from backfilld.store.upkeep.inspection import Inspected

Verdict = Literal["equal", "compared", "unpublished", "unusable", "unreadable"]
"""The checksum says it all; the rows were compared; there is no published file; it is of no use; ours is."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One day against the published file of checksum ``sha256``. ``is_republished`` says that ours came from another
    one; ``reason`` why there is nothing to compare."""

    instrument: Instrument
    day: date
    verdict: Verdict
    sha256: str | None = None
    is_republished: bool = False
    differences: Differences = NO_DIFFERENCES
    reason: str | None = None


async def compared(source: BinanceArchive, manager: BackfillCacheManager, inspected: Inspected) -> Comparison:
    """Compare a day; the published file is downloaded if its checksum does not decide, and deleted again.

    Raises TransientError and RequestRejected for an archive that is out of reach, and StoreError.
    """
    nothing = Comparison(inspected.instrument, inspected.day, "unpublished", reason="it is not published")
    if inspected.facts is None:
        return replace(nothing, verdict="unreadable", reason="the day file cannot be read")
    try:
        sha256 = await source.checksum(inspected.instrument, inspected.day)
        if sha256 is not None and is_copy(inspected, sha256):
            return replace(nothing, verdict="equal", sha256=sha256, reason=None)
        published = sha256 and await source.fetch(inspected.instrument, inspected.day)
        if not isinstance(published, Published):
            return nothing
        differences = await _differences(source, manager, published, inspected)
    except (ArchiveError, UnexpectedAnswer) as error:
        return replace(nothing, verdict="unusable", reason=str(error))
    except DayDamaged as error:
        return replace(nothing, verdict="unreadable", reason=str(error))
    return Comparison(
        inspected.instrument,
        inspected.day,
        "compared",
        published.sha256,
        is_republished=is_republished(inspected.facts, published.sha256),
        differences=differences,
    )


async def _differences(
    source: BinanceArchive, manager: BackfillCacheManager, published: Published, inspected: Inspected
) -> Differences:
    try:
        compare = partial(compare_day, manager, Path(published.path), inspected)
        return await in_thread(compare, is_waited_for=True)
    finally:
        with trio.CancelScope(shield=True):
            await source.discard(published)
