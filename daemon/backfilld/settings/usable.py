"""Directories that the settings name and that cannot be used: a sentence about the setting, for the operator.

Owns which refusals of the system are the setting's fault. A full or failing disk is not: time may mend it.
"""

import errno

from backfilld.core.text import plain
from backfilld.errors import BackfillError, SettingsError, StoreError
from backfilld.settings.model import Settings

_OPERATORS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
)


def unusable(settings: Settings, error: StoreError) -> BackfillError:
    """What to raise for a directory that could not be locked: a SettingsError that names the setting, its value, the
    rule and the source of the value, or the error itself."""
    cause = error.__cause__
    if not isinstance(cause, OSError) or cause.errno not in _OPERATORS:
        return error
    is_state = settings.state_dir is not None and str(settings.state_path) in str(error)
    name, path = ("state_dir", settings.state_path) if is_state else ("cache_dir", settings.cache_dir)
    rule = f"backfilld must be able to write to this directory: {cause.strerror}"
    return SettingsError(f"{name} = {plain(str(path))}: {rule} (from {settings.source_of(name)})")
