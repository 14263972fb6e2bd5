"""What the settings say of how day files are compressed and encrypted. Owns reading the key file that they name."""

from backfilld.settings.model import Settings
from backfilld.settings.sources import credential_path
from backfilld.store.format.dayfile import Encoding
from backfilld.store.format.keys import NO_KEYS, KeyRing


def encoding_of(settings: Settings) -> Encoding:
    """How day files are to be compressed and encrypted, and the keys that open them. Raises SettingsError."""
    return Encoding(settings.compression, settings.compression_level, keys_of(settings))


def keys_of(settings: Settings) -> KeyRing:
    """The keys of the settings' key file. Raises SettingsError for a file that is not one or that others can read."""
    if settings.key_file is None:
        return NO_KEYS
    from backfilld.store.key_file import load_keys  # noqa: PLC0415 - only where there are keys
    from backfilld.store.key_wear import KeyWear  # noqa: PLC0415

    return load_keys(
        settings.key_file,
        encrypts=settings.encryption != "none",
        used=KeyWear(settings.cache_dir).used,
        is_credential=settings.key_file == credential_path(),
    )
