"""What the endpoint sees of the daemon: its settings, its pipeline, and what the endpoint itself has done."""

from dataclasses import dataclass, field

from backfilld.serving.traffic import Traffic
from backfilld.settings import Settings
from backfilld.supervisor import Pipeline


@dataclass(frozen=True, slots=True)
class World:
    """Everything that routes are built from. Nothing here may be changed by a request."""

    settings: Settings
    pipeline: Pipeline
    traffic: Traffic = field(default_factory=Traffic)
