"""``backfilld rekey``: what was put under another key, in words."""

from collections.abc import Sequence
from functools import partial

from backfilld.core.model import Instrument
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE, EXIT_SETTINGS, SettingsError
from backfilld.services.rekey import Rekeyed, encoding_under, rekey_bucket, rekey_cache
from backfilld.settings import Settings
from backfilld.settings.encoding import encoding_of
from backfilld.surfaces.bar import progress_bar
from backfilld.surfaces.logs import complain, configure_logs
from backfilld.surfaces.words import counted, say


def rekey(
    settings: Settings,
    instruments: Sequence[Instrument] | None,
    key_id: str | None,
    *,
    decrypts: bool,
    remote: bool,
) -> int:
    """Put what is stored under another key, in the bucket too if ``remote``; print what was done; return the
    exit code.

    Raises SettingsError, CacheLocked while a daemon runs on the cache, and RemoteError.
    """
    if not decrypts and settings.encryption == "none":
        raise SettingsError("encryption = none: set it to parquet, or say --decrypt to write plain files")
    configure_logs(settings.log_format, "warning")
    encoding = encoding_under(encoding_of(settings), key_id, decrypts=decrypts)
    where = "plain" if decrypts else f"under the key {encoding.keys.keys[0].id}"
    with progress_bar() as watch:
        found = [rekey_cache(settings.cache_dir, instruments, encoding, watch)]
        if remote:
            from backfilld.surfaces.bucket import on_bucket  # noqa: PLC0415 - the cache alone needs no bucket

            work = partial(rekey_bucket, instruments=instruments, watch=watch)
            found.append(on_bucket(settings, work, writes=True, encoding=encoding))
    for each, place in zip(found, (settings.cache_dir, settings.remote_url), strict=False):
        _print(each, where, str(place))
    if any(each.is_locked for each in found):
        return EXIT_SETTINGS
    return EXIT_INCOMPLETE if any(each.failures for each in found) else EXIT_DONE


def _print(found: Rekeyed, where: str, place: str) -> None:
    say(f"{place}: {counted(found.done, 'file')} put {where}, {found.kept:,} were so already")
    if found.set_aside:
        say(f"{counted(len(found.set_aside), 'file')} moved aside earlier (.bad-) left as they are")
    for sentence in found.failures:
        complain(sentence)
