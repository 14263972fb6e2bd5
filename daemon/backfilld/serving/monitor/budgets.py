"""The governor's budgets by pool: markets of a pool share one."""

from collections.abc import Mapping

from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Market
from backfilld.core.weight.budget import BudgetStatistics


def by_pool(budgets: Mapping[Market, BudgetStatistics]) -> Mapping[Pool, BudgetStatistics]:
    """The budget of each pool that is known."""
    return {RULES[market].pool: each for market, each in budgets.items()}


def bots_of(_budget: BudgetStatistics) -> int:
    """What other programs have used through us: the governor does not count them apart yet."""
    return 0
