"""What all tests share: how hard hypothesis tries. Each run draws the same cases; `make test-thorough` draws anew."""

from hypothesis import HealthCheck, settings

from tests.effort import THOROUGH

settings.register_profile(
    "anew",
    deadline=None,
    max_examples=60,
    # Building a tape is slow beside drawing it; trio's virtual clock is asked for by tests that make their own loop.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("same", settings.get_profile("anew"), derandomize=True, print_blob=True)
settings.load_profile("anew" if THOROUGH else "same")
