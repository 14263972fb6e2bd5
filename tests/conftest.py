"""What all tests share: how hard hypothesis tries, and that a run in CI is repeatable."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "local",
    deadline=None,
    max_examples=60,
    # Building a tape is slow beside drawing it; trio's virtual clock is asked for by tests that make their own loop.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("ci", settings.get_profile("local"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
