"""How long a sync rests between two rounds, and what it does only now and then."""

LONGEST_REST_S = 300.0
"""A quiet instrument rests at most this long, unless POLL_SECONDS is longer."""

ARCHIVE_AGAIN_S = 3 * 3600.0
"""How often the archive is asked again for a day that is not complete."""

LOOK_EVERY_S = 300.0
"""How often to look whether another program has changed the files: one stat per file."""


def rest_s(poll_s: float, quiet_rounds: int) -> float:
    """The rest after this many rounds in a row that brought nothing: it doubles each time, up to LONGEST_REST_S."""
    return max(poll_s, min(LONGEST_REST_S, poll_s * 2.0 ** min(quiet_rounds, 16)))
