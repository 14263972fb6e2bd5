"""Which host is asked: the first that is in use, and back to it after a while."""

from backfilld.adapters.hosts import CLOSED_S, LONGEST_UNREACHABLE_S, UNREACHABLE_S, Hosts


class Bench:
    """Hosts and a clock that is set by hand."""

    def __init__(self, *bases: str) -> None:
        self.now = 1000.0
        self.hosts = Hosts(bases, lambda: self.now)


def test_an_unreachable_host_is_left_and_tried_again_later_and_later() -> None:
    bench = Bench("http://a/", "http://b")
    assert bench.hosts.preferred() == "http://a"
    for n in range(8):
        bench.hosts.unreachable("http://a")
        assert bench.hosts.preferred() == "http://b"
        bench.now += min(LONGEST_UNREACHABLE_S, UNREACHABLE_S * 2**n)
        assert bench.hosts.preferred() == "http://a"
    bench.hosts.reached("http://a")
    bench.hosts.unreachable("http://a")
    bench.now += UNREACHABLE_S
    assert bench.hosts.preferred() == "http://a", "an answer forgives what was before"


def test_five_failures_at_once_are_one() -> None:
    bench = Bench("http://a", "http://b")
    for _ in range(5):
        bench.hosts.unreachable("http://a")
    bench.now += UNREACHABLE_S
    assert bench.hosts.preferred() == "http://a"


def test_the_only_host_there_is_stays_in_use() -> None:
    bench = Bench("http://a")
    bench.hosts.unreachable("http://a")
    assert bench.hosts.preferred() == "http://a"
    assert not bench.hosts.closed("http://a")
    assert bench.hosts.preferred() == "http://a"


def test_a_closed_host_is_left_for_a_day_and_the_last_one_is_no_choice() -> None:
    bench = Bench("http://a", "http://b")
    assert bench.hosts.closed("http://a")
    assert bench.hosts.preferred() == "http://b"
    assert not bench.hosts.closed("http://b")
    bench.now += CLOSED_S
    assert bench.hosts.preferred() == "http://a"


def test_when_all_are_out_the_one_that_is_back_first_is_asked() -> None:
    bench = Bench("http://a", "http://b")
    bench.hosts.unreachable("http://a")
    bench.now += 10
    bench.hosts.unreachable("http://b")
    assert bench.hosts.preferred() == "http://a"
    assert str(bench.hosts) == "http://a, http://b"
