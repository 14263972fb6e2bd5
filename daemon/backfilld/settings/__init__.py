"""Settings: every knob, its default, its rule, and where its value came from."""

from backfilld.settings.model import PREFIX, Settings

__all__ = ["PREFIX", "Settings"]
