"""The last hour: bounded, and nothing in it that nobody saw."""

from backfilld.core.live.reports import HoleReport
from backfilld.core.markets import Pool
from backfilld.core.model import IdRange
from backfilld.core.monitor.history import HOLES, STRETCHES, WINDOWS, History, WeightWindow
from tests.fakes import BTC, ETH

MINUTE = 60_000


def window(number: int, own: int = 1, **of: int) -> WeightWindow:
    counts = {"bots": 0, "others": 0, "limit": 6000} | of
    return WeightWindow(number * MINUTE, own, **counts)


def test_of_a_window_the_largest_count_stays_and_one_that_is_over_comes_back_no_more() -> None:
    history = History()
    for seen in (window(1, 4), window(1, 40, others=7), window(1, 8), window(2, 4), window(1, 99)):
        history.saw_weight(Pool.SPOT, seen)
    assert history.weight == {Pool.SPOT: (window(1, 40, others=7), window(2, 4))}
    assert history.weight[Pool.SPOT][0].used == 47


def test_windows_by_a_clock_that_was_wrong_give_way() -> None:
    """Before the first answer the host's clock is assumed, which can be an hour ahead."""
    history = History()
    history.saw_weight(Pool.SPOT, window(90, 4))
    history.saw_weight(Pool.SPOT, window(12, 8))
    assert history.weight[Pool.SPOT] == (window(12, 8),)


def test_an_hour_of_windows_is_kept_and_pools_are_apart() -> None:
    history = History()
    for number in range(3 * WINDOWS):
        history.saw_weight(Pool.SPOT, window(number))
    history.saw_weight(Pool.FUTURES, window(7))
    assert [each.start_ms // MINUTE for each in history.weight[Pool.SPOT]] == list(range(2 * WINDOWS, 3 * WINDOWS))
    assert len(history.weight[Pool.FUTURES]) == 1


def test_a_rate_is_over_the_time_that_passed_and_a_count_that_began_anew_loses_nothing() -> None:
    history = History()
    history.saw_trades(0, {BTC: 100, ETH: 50})
    history.saw_trades(1_000, {BTC: 999, ETH: 50})
    history.saw_trades(8_000, {BTC: 180, ETH: 50})
    history.saw_trades(13_000, {BTC: 10, ETH: 60})
    assert [(each.stop_ms, each.trades_per_s) for each in history.rates] == [(8_000, 10.0), (13_000, 2.0)]


def test_an_instrument_that_is_new_counts_from_its_first_sight() -> None:
    history = History()
    history.saw_trades(0, {BTC: 100})
    history.saw_trades(5_000, {BTC: 100, ETH: 10_000})
    assert [each.trades_per_s for each in history.rates] == [0.0]


def test_an_hour_of_rates_is_kept() -> None:
    history = History()
    for number in range(2 * STRETCHES):
        history.saw_trades(number * 5_000.0, {BTC: number})
    assert len(history.rates) == STRETCHES


def test_a_hole_is_shown_once_and_the_newest_are_kept() -> None:
    history = History()
    holes = [HoleReport(BTC, IdRange(n, n), n * 1000.0, 0.2) for n in range(3 * HOLES)]
    for n in range(len(holes)):
        history.saw_holes(holes[max(0, n - 5) : n + 1])
    assert history.holes == tuple(reversed(holes[-HOLES:]))
