"""The questions say what limit they are asked with."""

from backfilld.core.backfill.questions import NOTHING, Before, Newest, Page, Since, Tail
from backfilld.core.model import PAGE_ROWS, IdRange


def test_a_page_asks_for_as_many_rows_as_it_has_ids() -> None:
    assert Page(IdRange(5, 5)).rows == 1
    assert Page(IdRange(1000, 1999)).rows == PAGE_ROWS == 1000


def test_a_tail_asks_for_a_full_page_and_what_only_locates_for_one_row() -> None:
    assert Tail(7).rows == PAGE_ROWS
    assert Since(0, 12).rows == 12
    assert Before(5).rows == 1
    assert Newest(at_least_id=3).rows == 1


def test_nothing_found_has_no_ids() -> None:
    assert NOTHING.ids is None
    assert NOTHING.rows == 0
    assert NOTHING.beyond_id is None
