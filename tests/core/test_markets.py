"""A market is complete, or nothing starts."""

from dataclasses import replace

import pytest

from backfilld.core.markets import RULES, Pool, complete, limits_of, markets_of
from backfilld.core.model import Market
from backfilld.core.weight.limits import Limit
from backfilld.core.weight.weights import Endpoint
from backfilld.settings import Settings


@pytest.mark.parametrize("market", Market)
def test_a_market_without_rules_is_named_and_stops_the_start(market: Market) -> None:
    others = {each: rules for each, rules in RULES.items() if each is not market}
    with pytest.raises(LookupError, match=f"^{market}: it has no rules$"):
        complete(others, Market)


def test_a_market_without_a_weight_or_a_limit_is_named() -> None:
    weightless = replace(RULES[Market.UM], weights={Endpoint.INFO: 1})
    with pytest.raises(LookupError, match=r"^um: aggTrades has no weight; cm: it has no limit$"):
        complete({Market.UM: weightless, Market.CM: replace(RULES[Market.CM], limits=())}, [Market.UM])


def test_the_rules_cannot_be_changed_while_the_program_runs() -> None:
    with pytest.raises(TypeError):
        RULES[Market.SPOT] = RULES[Market.UM]  # type: ignore[index]


def test_the_futures_share_one_pool_and_spot_has_its_own() -> None:
    assert {pool: markets_of(pool) for pool in Pool} == {
        Pool.SPOT: (Market.SPOT,),
        Pool.FUTURES: (Market.UM, Market.CM),
    }


def test_a_pool_begins_with_the_smallest_documented_limit_of_its_markets() -> None:
    assert limits_of(Pool.SPOT) == (Limit(6000, 1, "MINUTE"),)
    assert limits_of(Pool.FUTURES) == (Limit(2400, 1, "MINUTE"),)


@pytest.mark.parametrize("market", Market)
def test_every_market_has_a_base_url(market: Market) -> None:
    assert Settings(_env_file=None).urls[market] == (RULES[market].rest_url,)
