"""Which day files have outlived their time."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.retention import expired_days
from tests.fakes import DAY
from tests.strategies import days


@given(st.lists(days(), max_size=20), days(), st.integers(1, 3000))
def test_exactly_the_days_more_than_keep_days_back_expire(stored: list[date], today: date, keep_days: int) -> None:
    expired = expired_days(stored, today, keep_days)
    assert expired == sorted(expired)
    assert set(expired) == {day for day in stored if (today - day).days > keep_days}


def test_the_oldest_kept_day_is_keep_days_before_today() -> None:
    stored = [DAY - timedelta(days=n) for n in range(5)]
    assert expired_days(stored, DAY, 2) == [DAY - timedelta(days=4), DAY - timedelta(days=3)]


def test_zero_keeps_everything() -> None:
    assert expired_days([date(2017, 7, 14)], DAY, 0) == []
