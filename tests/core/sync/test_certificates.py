"""Which days have ids in common, as far as their certificates say."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.day.certificate import Certificate
from backfilld.core.model import IdRange
from backfilld.core.sync.certificates import Certificates
from backfilld.core.timespan import StoredSpan
from tests.fakes import DAY, DAY_MS

IDS = st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda each: range(each[0], each[0] + each[1] + 1))
DAYS = st.dictionaries(st.integers(0, 9), st.lists(IDS, min_size=1, max_size=2), min_size=1)


def certificate(day: int, parts: list[range]) -> Certificate:
    """A day with these ids."""
    ids = sorted({trade_id for part in parts for trade_id in part})
    spans = tuple(StoredSpan(IdRange(each, each), DAY_MS, DAY_MS) for each in ids)
    return Certificate(DAY + timedelta(days=day), spans)


@given(DAYS, st.data(), st.booleans(), st.booleans())
def test_the_nearest_days_on_both_sides_share_an_id_if_any_is_in_both(
    days: dict[int, list[range]], data: st.DataObject, is_stored: bool, is_altered: bool
) -> None:
    certificates = Certificates()
    records = {day: certificate(day, parts) for day, parts in days.items()}
    number = data.draw(st.integers(0, 9))
    record = records.pop(number, None) or certificate(number, [data.draw(IDS)])
    for day, each in records.items():
        certificates.stored(each)
        certificates.sharing(each)
        if is_altered and day % 3 == 0:
            certificates.removed(each.day)
    if is_altered:
        records = {day: each for day, each in records.items() if day % 3}
    if is_stored:
        certificates.stored(record)
    nearest = [max((day for day in records if day < number), default=None)]
    nearest += [min((day for day in records if day > number), default=None)]
    expected = tuple(records[day] for day in nearest if day is not None and records[day].coverage & record.coverage)
    assert certificates.sharing(record) == expected
