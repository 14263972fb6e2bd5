"""Only ordinary questions are answered from here; whatever is odd is the exchange's."""

import pytest

from backfilld.core.model import Instrument, Market
from backfilld.core.serving.questions import TradesQuestion, candles_question, trades_question

MS = 1_760_000_000_000


def test_an_ordinary_question_is_read() -> None:
    found = trades_question(Market.SPOT, f"symbol=BTCUSDT&startTime={MS}&endTime={MS + 1}&limit=7")
    assert found == TradesQuestion(Instrument.parse("spot:BTCUSDT"), 7, None, MS, MS + 1)
    assert trades_question(Market.CM, "symbol=BTCUSD_PERP&fromId=0") == TradesQuestion(
        Instrument.parse("cm:BTCUSD_PERP"), 500, 0
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "fromId=1",
        "symbol=",
        "symbol=BTCUSDT&symbol=BTCUSDT",
        "symbol=BTCUSDT&limit=1&limit=1",
        "symbol=BTCUSDT&unknown=1",
        "symbol=BTCUSDT&limit=",
        "symbol=BTCUSDT&limit=0",
        "symbol=BTCUSDT&limit=1001",
        "symbol=BTCUSDT&limit=%2B5",
        "symbol=BTCUSDT&limit=-5",
        "symbol=BTCUSDT&limit=05",
        "symbol=BTCUSDT&limit=5.0",
        "symbol=BTCUSDT&limit=\u0665",
        "symbol=BTCUSDT&fromId=-1",
        "symbol=BTCUSDT&fromId=99999999999999999999999",
        f"symbol=BTCUSDT&fromId=1&startTime={MS}",
        f"symbol=BTCUSDT&fromId=1&endTime={MS}",
        f"symbol=BTCUSDT&startTime={MS}&endTime={MS - 1}",
        f"symbol=BTCUSDT&startTime={MS * 1000}",
        "symbol=BTCUSDT&startTime=0",
        "symbol=btcusdt",
        "symbol=BTC/USDT",
        "symbol=../../etc",
        "symbol=%00",
        "symbol=BTCUSDT&",
        "symbol=BTCUSDT;limit=5",
        "symbol=BTC%ffUSDT",
    ],
)
def test_an_odd_question_is_the_exchange_s(query: str) -> None:
    assert trades_question(Market.SPOT, query) is None


def test_futures_refuse_an_hour_and_spot_does_not() -> None:
    query = f"symbol=BTCUSDT&startTime={MS}&endTime={MS + 3_600_000}"
    assert trades_question(Market.SPOT, query) is not None
    assert trades_question(Market.UM, query) is None
    assert trades_question(Market.UM, query.replace(str(MS + 3_600_000), str(MS + 3_599_999))) is not None


@pytest.mark.parametrize(
    "query",
    [
        "symbol=BTCUSDT",
        "symbol=BTCUSDT&interval=7m",
        "symbol=BTCUSDT&interval=1M&timeZone=15",
        "symbol=BTCUSDT&interval=1m&timeZone=%2B14:01",
        "symbol=BTCUSDT&interval=1m&timeZone=",
        "symbol=BTCUSDT&interval=1m&limit=0",
        "symbol=BTCUSDT&interval=1m&fromId=1",
        "symbol=BTCUSDT&interval=1m&interval=1m",
    ],
)
def test_an_odd_question_for_candles_is_the_exchange_s(query: str) -> None:
    assert candles_question(query) is None


@pytest.mark.parametrize("zone", ["0", "8", "-1:00", "05:45", "-12:00", "14", "%2B14:00", "14:00"])
def test_time_zones_of_the_documents_are_read(zone: str) -> None:
    assert candles_question(f"symbol=BTCUSDT&interval=1d&timeZone={zone}") is not None
