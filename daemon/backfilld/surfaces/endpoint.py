"""Whether a daemon serves other programs, and what it needs for that. Imports nothing of the extra."""

from importlib.util import find_spec

from backfilld.errors import SettingsError
from backfilld.settings import Settings

_EXTRA = ("hypercorn", "starlette", "prometheus_client")


def serves(settings: Settings) -> bool:
    """Whether a listener is set."""
    return settings.api_listen != "off" or settings.stream_listen != "off"


def refuse_without_extra() -> None:
    """Raise SettingsError if a package of the extra is not installed."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"api_listen and stream_listen need the extra [serve]: pip install 'backfilld[serve]' "
            f"({', '.join(missing)} is missing)"
        )
