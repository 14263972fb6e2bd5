"""What the endpoint sees of the daemon: its settings, its pipeline, and what the endpoint itself has done."""

from dataclasses import dataclass, field
from functools import cached_property

from backfilld.core.monitor.warned import RecentWarnings
from backfilld.pipeline import Pipeline
from backfilld.serving.monitor.watch import Watch
from backfilld.serving.traffic import Traffic
from backfilld.settings import Settings


@dataclass(frozen=True)
class World:
    """Everything that routes are built from. Nothing here may be changed by a request."""

    settings: Settings
    pipeline: Pipeline
    traffic: Traffic = field(default_factory=Traffic)
    warnings: RecentWarnings = field(default_factory=RecentWarnings)

    @cached_property
    def watch(self) -> Watch:
        """Who looks at the daemon, and remembers the last hour of it."""
        return Watch(self.settings, self.pipeline, self.traffic, self.warnings)
