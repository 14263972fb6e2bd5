"""``backfilld cleanup``: which day files were deleted for their age, in words."""

from collections.abc import Sequence
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.services.cleanup import clean_up, pushed_only
from backfilld.store.format.dayfile import Encoding
from backfilld.surfaces.words import counted, say


def print_cleanup(
    cache_dir: Path,
    instruments: Sequence[Instrument] | None,
    keep_days: int,
    *,
    dry_run: bool,
    pushed_to: str = "",
    encoding: Encoding | None = None,
) -> None:
    """Delete old day files, and print which: with ``pushed_to``, a bucket's URL, only those that are there. Raises
    CacheLocked while a daemon runs on the cache."""
    if pushed_to:
        may_delete = pushed_only(cache_dir, pushed_to, encoding)
        paths = clean_up(cache_dir, instruments, keep_days, dry_run=dry_run, may_delete=may_delete, encoding=encoding)
        say(f"days that are not in {pushed_to} yet are kept")
    else:
        paths = clean_up(cache_dir, instruments, keep_days, dry_run=dry_run, encoding=encoding)
    for path in paths:
        say(f"would delete {path}" if dry_run else f"deleted {path}")
    if keep_days == 0:
        say("--keep-days 0 keeps every day file; nothing is deleted")
        return
    verb = "would be deleted" if dry_run else "deleted"
    say(f"{counted(len(paths), 'day file')} older than {counted(keep_days, 'day')} {verb}")
