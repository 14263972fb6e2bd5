"""Instruments are read or refused with the rule; days are UTC and half-open."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.frame import SCHEMA, empty_trades
from backfilld.core.model import MS_PER_DAY, Instrument, Market, day_of, day_start_ms, day_stop_ms, instant_ms, iso
from backfilld.errors import SettingsError
from tests.strategies import days


@pytest.mark.parametrize(
    "text", ["spot:BTCUSDT", "um:BTCUSDT_261225", "cm:BTCUSD_PERP", "spot:币安人生USDT", "um:1000SHIBUSDT"]
)
def test_an_instrument_reads_back_as_it_is_written(text: str) -> None:
    assert str(Instrument.parse(text)) == text
    assert Instrument.parse(f" {text}\n") == Instrument.parse(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("BTCUSDT", "write market:SYMBOL"),
        ("binance:BTCUSDT", "write market:SYMBOL"),
        ("SPOT:BTCUSDT", "write market:SYMBOL"),
        ("", "write market:SYMBOL"),
        ("spot:", "a symbol is 1 to 60 letters"),
        ("spot:../../etc", "a symbol is 1 to 60 letters"),
        ("spot:A B", "a symbol is 1 to 60 letters"),
        ("spot:" + "A" * 61, "a symbol is 1 to 60 letters"),
        ("spot:btcusdt", "write spot:BTCUSDT"),
    ],
)
def test_what_is_not_an_instrument_is_refused_with_the_text_and_the_rule(text: str, rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Instrument.parse(text)
    assert repr(text) in str(caught.value)
    assert rule in str(caught.value)


@given(st.text(max_size=30))
def test_any_text_is_an_instrument_or_a_settings_error(text: str) -> None:
    """And what is accepted stays inside one directory of the cache."""
    try:
        instrument = Instrument.parse(text)
    except SettingsError:
        return
    assert instrument.market in set(Market)
    assert not set("/\\.\0 ") & set(instrument.symbol)


@given(days(), st.integers(0, MS_PER_DAY - 1))
def test_a_day_holds_its_instants_and_no_others(day: date, offset_ms: int) -> None:
    assert day_of(day_start_ms(day) + offset_ms) == day
    assert day_of(day_start_ms(day) - 1) == day - timedelta(days=1)
    assert day_of(day_stop_ms(day)) == day + timedelta(days=1)
    assert day_start_ms(day) == datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000


@given(st.datetimes(datetime(2009, 1, 1), datetime(2099, 1, 1)), st.integers(-12, 12))  # noqa: DTZ001 - made aware below
def test_instants_are_the_same_in_every_time_zone_and_rounded_down(moment: datetime, hours: int) -> None:
    aware = moment.replace(tzinfo=UTC)
    at_ms = instant_ms(aware)
    assert at_ms == instant_ms(aware.astimezone(timezone(timedelta(hours=hours))))
    assert timedelta(0) <= aware - datetime(1970, 1, 1, tzinfo=UTC) - timedelta(milliseconds=at_ms)
    assert aware - datetime(1970, 1, 1, tzinfo=UTC) < timedelta(milliseconds=at_ms + 1)
    assert iso(at_ms) == aware.replace(microsecond=0).isoformat()


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(SettingsError, match="has no time zone"):
        instant_ms(datetime(2025, 11, 7))  # noqa: DTZ001 - this is the mistake


def test_no_trades_are_a_frame_of_the_schema() -> None:
    assert dict(empty_trades().schema) == SCHEMA
    assert list(SCHEMA) == ["T", "a", "p", "q", "f", "l", "m", "M"]
