"""Commands on the bucket: open it, ask whether it may be read and written, and run the work."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from backfilld.adapters.remote_days import CachedDaysInBucket
from backfilld.assembly import remote_days
from backfilld.settings import Settings
from backfilld.store.format.dayfile import Encoding

T = TypeVar("T")


def on_bucket(
    settings: Settings,
    work: Callable[[CachedDaysInBucket], Awaitable[T]],
    *,
    writes: bool = False,
    encoding: Encoding | None = None,
) -> T:
    """The result of the work on the bucket of the settings, which is asked first whether it may be read, and
    written if the work ``writes``; the days are encoded as the settings say, or as ``encoding`` says.

    Raises SettingsError and RemoteError.
    """

    async def main() -> T:
        days = remote_days(settings, encoding=encoding)
        await days.objects.probe(writes=writes)
        return await work(days)

    return trio.run(main)
