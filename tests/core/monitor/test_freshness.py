"""How far behind an instrument is, and when that is worth a sentence."""

from backfilld.core.live.reports import LiveInstrument
from backfilld.core.monitor.freshness import Freshness, complete_at, stale
from backfilld.core.sync.standing import Standing

NOW = 1_000_000.0
NOW_S = 1000.0
COMPLETE = Standing(is_complete=True, complete_at=NOW_S - 600)


def test_a_stream_that_lacks_nothing_is_as_fresh_as_its_newest_message_however_quiet() -> None:
    assert complete_at(NOW_S, COMPLETE, LiveInstrument(is_attached=True, lag_ms=40.0)) == NOW_S - 0.04
    assert complete_at(NOW_S, COMPLETE, LiveInstrument(is_attached=True, lag_ms=0.0)) == NOW_S


def test_an_open_hole_makes_it_as_old_as_the_hole() -> None:
    assert complete_at(NOW_S, COMPLETE, LiveInstrument(is_attached=True, lag_ms=1.0, hole_since_s=12.0)) == NOW_S - 12


def test_without_a_stream_the_last_round_counts() -> None:
    assert complete_at(NOW_S, COMPLETE, LiveInstrument(is_attached=False, lag_ms=1.0)) == NOW_S - 600
    assert complete_at(NOW_S, COMPLETE, None) == NOW_S - 600
    assert complete_at(NOW_S, Standing(), None) is None


def test_a_stream_alone_completes_nothing() -> None:
    """Followed as soon as its newest trade is stored, while older days are still fetched."""
    attached = LiveInstrument(is_attached=True, lag_ms=40.0)
    assert complete_at(NOW_S, Standing(is_followed=True), attached) is None
    assert complete_at(NOW_S, Standing(complete_at=NOW_S - 600), attached) == NOW_S - 600


def test_what_is_late_or_was_never_complete_is_named() -> None:
    of = {"a": Freshness(True, NOW - 60_000), "b": Freshness(False, NOW - 75_000), "c": Freshness()}
    of["d"] = Freshness(True, NOW - 90_000, is_complete=False)
    sentences = ["b: 75 s behind", "c: not complete yet", "d: 90 s since it was complete"]
    assert [each.removesuffix(", more than 60 s") for each in stale(NOW, 60, of)] == sentences
    assert not list(stale(NOW, 80, {"b": of["b"]}))
