"""Which page is asked for: never more requests than holes and pages need, and always on."""

from hypothesis import given
from hypothesis import strategies as st

from backfilld.core.backfill.paging import WORTH_ASKING_AGAIN, next_page
from backfilld.core.backfill.questions import Page
from backfilld.core.ids import IdSet
from backfilld.core.model import PAGE_ROWS, IdRange

lengths = st.one_of(st.integers(1, 30), st.sampled_from([998, 999, 1000, 1001, 2500]))


@st.composite
def stretches(draw: st.DrawFn) -> tuple[IdSet, IdSet, IdRange]:
    """What is stored, what must not be asked for (absent, given up or on its way), and what is wanted."""
    stored: list[IdRange] = []
    avoided: list[IdRange] = []
    at = 0
    for length in draw(st.lists(lengths, min_size=1, max_size=25)):
        kind = draw(st.sampled_from(["stored", "stored", "missing", "missing", "avoided"]))
        if kind != "missing":
            (stored if kind == "stored" else avoided).append(IdRange(at, at + length - 1))
        at += length
    return IdSet.of(stored), IdSet.of(avoided), IdRange(0, at - 1)


def ids_of(coverage: IdSet) -> set[int]:
    return {each for part in coverage.ranges for each in range(part.first_id, part.last_id + 1)}


def pages_of(stored: IdSet, avoided: IdSet, wanted: IdRange, *, newest_first: bool) -> list[Page]:
    """All pages until nothing is missing, each answered in full."""
    pages: list[Page] = []
    while missing := (stored | avoided).missing(wanted):
        page = next_page(missing, stored, newest_first=newest_first)
        assert ids_of(IdSet.of(missing)) & set(range(page.ids.first_id, page.ids.last_id + 1)), "no progress"
        pages.append(page)
        stored |= IdSet((page.ids,))
    return pages


@given(stretches(), st.booleans())
def test_every_page_holds_ids_that_are_missing_and_between_them_only_stored_ones(
    drawn: tuple[IdSet, IdSet, IdRange], newest_first: bool
) -> None:
    """Ids that are absent, given up or on their way are in no page; none is too large or begins with what is stored."""
    stored, avoided, wanted = drawn
    for page in pages_of(stored, avoided, wanted, newest_first=newest_first):
        ids = set(range(page.ids.first_id, page.ids.last_id + 1))
        assert len(page.ids) <= PAGE_ROWS
        assert not ids & ids_of(avoided)
        assert not {page.ids.first_id, page.ids.last_id} & ids_of(stored)
        again = len(ids & ids_of(stored))
        holes = len(stored.missing(page.ids))
        assert again == 0 or holes >= WORTH_ASKING_AGAIN, "stored ids are asked for again, to fill few holes"
        stored |= IdSet((page.ids,))


@given(stretches(), st.booleans())
def test_all_is_filled_by_no_more_requests_than_the_pages_of_each_hole(
    drawn: tuple[IdSet, IdSet, IdRange], newest_first: bool
) -> None:
    stored, avoided, wanted = drawn
    missing = (stored | avoided).missing(wanted)
    pages = pages_of(stored, avoided, wanted, newest_first=newest_first)
    asked = {each for page in pages for each in range(page.ids.first_id, page.ids.last_id + 1)}
    assert ids_of(IdSet.of(missing)) <= asked
    assert len(pages) <= sum(-(-len(each) // PAGE_ROWS) for each in missing)


@given(st.integers(WORTH_ASKING_AGAIN, 100), st.booleans())
def test_scattered_holes_share_a_page(count: int, newest_first: bool) -> None:
    """A hole in every ten ids, as a defective file leaves them: a page fills a hundred of them."""
    stored = IdSet.of(IdRange(10 * n + 1, 10 * n + 9) for n in range(count))
    wanted = IdRange(0, 10 * count)
    missing = stored.missing(wanted)
    pages = pages_of(stored, IdSet(), wanted, newest_first=newest_first)
    assert len(missing) == count + 1
    assert len(pages) == -(-(10 * count + 1) // PAGE_ROWS)


def test_few_holes_are_asked_for_one_by_one() -> None:
    stored = IdSet.of([IdRange(1, 9), IdRange(11, 19), IdRange(21, 29)])
    pages = pages_of(stored, IdSet(), IdRange(1, 20), newest_first=False)
    assert pages == [Page(IdRange(10, 10)), Page(IdRange(20, 20))]
