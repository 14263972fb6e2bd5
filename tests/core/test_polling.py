"""What polling costs is known before the first request."""

from backfilld.core.markets import Pool
from backfilld.core.model import Instrument
from backfilld.core.polling import PollingWeight, polling_weights


def instruments(market: str, count: int) -> list[Instrument]:
    return [Instrument.parse(f"{market}:S{number}USDT") for number in range(count)]


def test_each_poll_is_one_page() -> None:
    """Spot asks for 4 a page of 6,000 a minute."""
    assert polling_weights(instruments("spot", 500), 30, 0.8) == (PollingWeight(Pool.SPOT, 500, 4000, 4800),)


def test_both_futures_markets_spend_one_pool() -> None:
    wanted = [*instruments("um", 30), *instruments("cm", 20)]
    (found,) = polling_weights(wanted, 30, 0.8)
    assert (found.pool, found.instruments, found.weight, found.allowed) == (Pool.FUTURES, 50, 2000, 1920)
    assert found.is_too_much
    assert str(found) == "futures: polls take at most 2,000 of 1,920 weight a minute"


def test_a_longer_interval_costs_less() -> None:
    (often,) = polling_weights(instruments("spot", 10), 1, 0.5)
    (seldom,) = polling_weights(instruments("spot", 10), 100, 0.5)
    assert (often.weight, seldom.weight, often.allowed, often.is_too_much) == (2400, 24, 3000, False)
