"""How far behind an instrument is, and when that is worth a sentence."""

from backfilld.core.live.reports import LiveInstrument
from backfilld.core.monitor.freshness import Freshness, freshness, stale

NOW = 1_000_000.0


def test_a_stream_that_lacks_nothing_is_as_fresh_as_its_newest_message_however_quiet() -> None:
    live = LiveInstrument(is_attached=True, lag_ms=40.0)
    assert freshness(NOW, live, NOW - 600_000) == Freshness(is_attached=True, complete_ms=NOW - 40)
    ahead = LiveInstrument(is_attached=True, lag_ms=-5.0)
    assert freshness(NOW, ahead, None).complete_ms == NOW


def test_an_open_hole_makes_it_as_old_as_the_hole() -> None:
    live = LiveInstrument(is_attached=True, lag_ms=1.0, hole_since_s=12.0)
    assert freshness(NOW, live, NOW).complete_ms == NOW - 12_000


def test_without_a_stream_the_last_round_counts() -> None:
    assert freshness(NOW, LiveInstrument(is_attached=False, lag_ms=1.0), NOW - 9_000) == Freshness(False, NOW - 9_000)
    assert freshness(NOW, None, None) == Freshness()


def test_what_is_late_or_was_never_complete_is_named() -> None:
    of = {"a": Freshness(True, NOW - 60_000), "b": Freshness(False, NOW - 75_000), "c": Freshness()}
    assert list(stale(NOW, 60, of)) == ["b: 75 s behind, more than 60 s", "c: not complete yet"]
    assert not list(stale(NOW, 80, {"b": of["b"]}))
