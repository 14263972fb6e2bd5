"""From settings to a pipeline: what the parts share."""

from pathlib import Path

from backfilld.assembly import assembled
from backfilld.core.markets import RULES, Pool
from backfilld.core.model import Market
from backfilld.settings import Settings


async def test_usd_m_and_coin_m_share_one_budget_and_spot_has_its_own(tmp_path: Path) -> None:
    with assembled(Settings(cache_dir=tmp_path), once=True) as assembly:
        assert set(assembly.pipeline.room.budgets) == set(Pool)
        assert RULES[Market.UM].pool is RULES[Market.CM].pool is Pool.FUTURES
