"""The file with the keys of encrypted day files. Owns its form, and who may be able to read it.

    # the first key encrypts, all of them decrypt
    2026-q4 3q2+78r+...          an id, a space, 32 bytes in base64

Errors name the file and the line, and never what stands there.
"""

import base64
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from backfilld.errors import SettingsError
from backfilld.store.format.keys import KEY_BYTES, Key, KeyRing

MOST_BYTES = 64 << 10
"""The largest key file that is read: about a thousand keys."""

_OWNER_ONLY = {0o400, 0o600}
_CREDENTIAL_MODES = _OWNER_ONLY | {0o440}
"""systemd lets the service's user read a credential by an access control list, which shows as the group's bit."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def load_keys(path: Path, *, encrypts: bool, used: Callable[[Key, int], None], is_credential: bool = False) -> KeyRing:
    """The keys in the file at this path; ``is_credential`` if it comes from systemd. Raises SettingsError for a file
    that others can read, or that is not a key file."""
    keys = tuple(_keys_in(_text_of(path, _CREDENTIAL_MODES if is_credential else _OWNER_ONLY), path))
    if not keys:
        raise SettingsError(f"key_file = {path}: it has no key; write a line `ID BASE64-OF-32-BYTES`")
    return KeyRing(keys, encrypts, str(path), used)


def _text_of(path: Path, modes: set[int]) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = "Is a link" if Path(path).is_symlink() else getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"key_file = {path}: it cannot be read ({reason})") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise SettingsError(f"key_file = {path}: it must be a file")
        mode = stat.S_IMODE(found.st_mode)
        if mode not in modes:
            raise SettingsError(
                f"key_file = {path}: its mode is {mode:04o}, and must be 0400 or 0600: chmod 600 {path}"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            body = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"key_file = {path}: it cannot be read ({error.strerror})") from None
    finally:
        os.close(descriptor)
    if len(body) > MOST_BYTES:
        raise SettingsError(f"key_file = {path}: it has more than {MOST_BYTES:,} bytes")
    return body.decode("ascii", errors="replace")


def _keys_in(text: str, path: Path) -> Iterator[Key]:
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = _key_of(words)
        if key is None:
            raise SettingsError(f"key_file = {path}: line {number} must be an id, a space and 32 bytes in base64")
        for name in (key.id, key.fingerprint):
            if name in seen:
                raise SettingsError(f"key_file = {path}: line {number} repeats the id or the key of line {seen[name]}")
            seen[name] = number
        yield key


def _key_of(words: list[str]) -> Key | None:
    if len(words) != 2 or not _ID.fullmatch(words[0]):  # noqa: PLR2004 - an id and a key
        return None
    try:
        secret = base64.b64decode(words[1], validate=True)
    except ValueError:
        return None
    return Key(words[0], secret) if len(secret) == KEY_BYTES else None
