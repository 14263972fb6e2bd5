"""The exit code says who can act: 78 the operator, 75 time, 1 anything else, 0 nobody needs to."""

from typing import Any

import pytest

from backfilld.core.backfill.outcome import Outcome, exit_code, overall_exit_code
from backfilld.core.markets import RULES
from backfilld.core.model import Market
from backfilld.core.weight.weights import Endpoint
from backfilld.errors import (
    BackfillError,
    BackfillIncomplete,
    CacheLocked,
    RateLimited,
    RequestRejected,
    SettingsError,
    StoreError,
    TransientError,
    UnexpectedAnswer,
)
from tests.fakes import BTC

CODES: list[tuple[BaseException, int]] = [
    (SettingsError("days = -1"), 78),
    (RequestRejected("-1121 Invalid symbol.", status=400, code=-1121), 78),
    (RequestRejected("no JSON from this URL", status=404, code=None), 78),
    (RequestRejected("-4166 Search window", status=400, code=-4166), 1),
    (CacheLocked("held"), 75),
    (RateLimited("418", retry_after_s=120, banned=True), 75),
    (TransientError("timeout"), 75),
    (UnexpectedAnswer("holes"), 1),
    (StoreError("disk full"), 1),
    (BackfillIncomplete("ids are missing"), 1),
    (RuntimeError("a bug"), 1),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda each: type(each).__name__)
def test_the_exit_code_of_an_error(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def outcome(**changed: Any) -> Outcome:
    """A complete outcome, but for what is changed."""
    values = {"complete": True, "trades": 0, "cached": 0, "seconds": 1.0, "requests": 3, "weight": 12}
    return Outcome(BTC, **(values | changed))


def test_an_outcome_is_done_or_incomplete_or_what_its_error_says() -> None:
    assert outcome().exit_code == 0
    assert outcome(complete=False).exit_code == 1
    assert outcome(complete=False, error=TransientError("timeout")).exit_code == 75
    assert outcome(complete=False, error=UnexpectedAnswer("holes")).exit_code == 1


def test_the_worst_outcome_decides_and_what_the_operator_must_change_is_worst() -> None:
    def failed(error: BackfillError | None) -> Outcome:
        return outcome(complete=False, error=error)

    done, late, wrong = outcome(), failed(TransientError("x")), failed(SettingsError("x"))
    assert overall_exit_code([]) == 0
    assert overall_exit_code([done, done]) == 0
    assert overall_exit_code([done, late]) == 75
    assert overall_exit_code([late, failed(None)]) == 1
    assert overall_exit_code([failed(None), wrong, late]) == 78


def test_downloaded_and_hit_ratio_are_derived_from_trades_and_cached() -> None:
    assert outcome(trades=100, cached=75).downloaded == 25
    assert outcome(trades=100, cached=75).hit_ratio == 0.75
    assert outcome().hit_ratio == 1.0


def test_every_market_has_its_weights() -> None:
    assert [RULES[market].weights[Endpoint.TRADES] for market in (Market.SPOT, Market.UM, Market.CM)] == [4, 20, 20]
