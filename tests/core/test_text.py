"""Foreign text: whatever comes in, one printable line comes out."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backfilld.core.text import plain

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)


@given(ANY_TEXT, st.integers(4, 300))
@example("a\nREADY=1", 200)
@example("\x1b]0;title\x07\x9b2J", 200)
@example("a\x85b\u2028c\u2029d\x1ce", 200)
@example("\ud800", 200)
@example("\u202egnp.exe", 200)
@example("a" * 4 + " ", 4)
def test_one_printable_line_within_the_limit(text: str, limit: int) -> None:
    line = plain(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    forbidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not {unicodedata.category(each) for each in line} & forbidden
    line.encode()
    assert plain(line, limit) == line


@pytest.mark.parametrize("text", ["", "-1121 Invalid symbol.", "\u5e01\u5b89\u4eba\u751fUSDT costs 1 \u00b5"])
def test_a_good_line_stays_as_it_is(text: str) -> None:
    assert plain(text) == text


def test_what_is_cut_shows_it() -> None:
    assert plain("x" * 201) == "x" * 197 + "..."
    assert plain("x" * 200) == "x" * 200
    assert plain("\n" * 900 + "x") == "..."


def test_a_text_of_any_length_costs_the_same() -> None:
    """Only its beginning is looked at: a body of 100 MB is not gone through character by character."""

    class Counted(str):
        __slots__ = ()

        def __iter__(self) -> None:  # type: ignore[override]
            raise AssertionError("all of it is gone through")

    assert plain(Counted("y" * 10_000_000)).startswith("yyy")
