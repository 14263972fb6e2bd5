"""What is pushed, what may be deleted, and when a bucket that does not answer is asked again."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.model import Instrument, Market
from backfilld.core.replication import (
    LONGEST_WAIT_S,
    DayName,
    PushNote,
    PushQueue,
    Reachability,
    day_key,
    day_of_key,
    manifest_key,
    standing_of,
    unpushed_days,
)
from tests.fakes import BTC, DAY, ETH

DIGESTS = st.sampled_from(["a", "b", "c"])
DAYS = st.dates(date(2025, 1, 1), date(2025, 1, 20))
NOTES = st.builds(PushNote, DIGESTS, st.none() | DIGESTS)
INSTRUMENTS = st.builds(
    Instrument, st.sampled_from(Market), st.from_regex(r"[A-Z0-9币安_]{1,20}", fullmatch=True)
)  # fmt: skip


@given(instrument=INSTRUMENTS, day=st.dates(date(2017, 1, 1), date(2100, 1, 1)))
def test_a_key_names_one_day_of_one_instrument(instrument: Instrument, day: date) -> None:
    assert day_of_key(day_key(instrument, day)) == (instrument, day)
    assert day_of_key(manifest_key(instrument)) is None


@pytest.mark.parametrize(
    "key",
    [
        "market=spot/symbol=BTCUSDT/backfill_2025-02-30.parquet",
        "market=gold/symbol=BTCUSDT/backfill_2025-02-03.parquet",
        "market=spot/symbol=../backfill_2025-02-03.parquet",
        "market=spot/symbol=btcusdt/backfill_2025-02-03.parquet",
        "x/market=spot/symbol=BTCUSDT/backfill_2025-02-03.parquet",
        "market=spot/symbol=BTCUSDT/backfill_2025-02-03.parquet.conflicts",
        "market=spot/symbol=BTCUSDT/backfill_2025-02-03.parquet\n",
        "",
    ],
)
def test_other_objects_are_not_days(key: str) -> None:
    assert day_of_key(key) is None


@given(digests=st.dictionaries(DAYS, DIGESTS), notes=st.dictionaries(DAYS, NOTES))
def test_what_is_not_noted_with_the_digest_of_now_is_pushed_and_nothing_else(
    digests: dict[date, str], notes: dict[date, PushNote]
) -> None:
    unpushed = unpushed_days(digests, notes)
    assert list(unpushed) == sorted(set(unpushed))
    for day, digest in digests.items():
        assert (day in unpushed) == (notes.get(day) != PushNote(digest))
    assert set(unpushed) <= set(digests)


def test_equal_digests_are_equal_rows() -> None:
    assert standing_of("a", "a") == "stored"
    assert standing_of("a", "b") == standing_of("a", None) == "conflicted"


@given(st.lists(st.tuples(st.sampled_from([BTC, ETH]), DAYS)))
def test_a_queue_gives_each_day_once_as_they_came_and_again_if_it_comes_again(names: list[DayName]) -> None:
    queue = PushQueue()
    for name in names:
        queue.add(name)
    assert len(queue) == len(set(names))
    taken = [queue.take() for _ in range(len(queue))]
    assert taken == list(dict.fromkeys(names))
    assert queue.take() is None
    queue.add((BTC, DAY))
    assert queue.take() == (BTC, DAY)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=30))
def test_a_failure_and_a_recovery_are_news_once_and_a_lost_bucket_is_asked_again(
    events: list[tuple[bool, float]],
) -> None:
    bucket, now, was_lost = Reachability(), 0.0, False
    for works, later in events:
        now += later
        if works:
            assert (bucket.answered(now) is not None) == was_lost
            assert bucket.may_ask(now)
        else:
            assert bucket.failed(now) == (not was_lost)
            assert not bucket.may_ask(now)
            assert bucket.may_ask(now + LONGEST_WAIT_S)
        was_lost = not works
        assert bucket.is_lost == was_lost


def test_a_bucket_that_stays_lost_is_asked_less_and_less_often() -> None:
    bucket, now, waits = Reachability(), 0.0, []
    for _ in range(12):
        bucket.failed(now)
        waits.append(bucket.asks_at - now)
        now = bucket.asks_at
    assert waits == sorted(waits)
    assert waits[0] == 1.0
    assert waits[-1] == LONGEST_WAIT_S
    assert bucket.answered(now) == now
