"""The rows of a terminal: at any width nothing is cut, nothing is wider than the terminal, and what matters stays."""

from hypothesis import given
from hypothesis import strategies as st

from backfilld.surfaces.progress import screen_lines
from backfilld.surfaces.rows import Line, Row, duration, part_lines, row_lines

FETCHING = Row("spot:BTCUSDT", "fetching", 126_002, 1_200_283, 9_812.4)
WAITING = Row("um:ETHUSDT", "fetching", 72_000, 600_000, 1_600.0, ("41 s for weight",))
LIVE = Row("spot:ETHUSDT", "live", words=("live, lag 40 ms", "newest trade 1 s ago"))
COMPLETE = Row("cm:BTCUSD_PERP", "complete", words=("complete", "newest trade 1 s ago", "next check in 12 s"))
FAILING = Row(
    "um:BTCUSDT", "failing", 0, 10, 0.0, ("https://fapi.binance.com is out of reach for 12 s", "asks again in 3 s")
)
ROWS = [FETCHING, WAITING, LIVE, COMPLETE]


def texts(lines: list[Line]) -> list[str]:
    return ["".join(text for text, _ in line) for line in lines]


def test_a_wide_terminal_shows_everything_in_columns() -> None:
    assert texts(row_lines(ROWS, 120)) == [
        "spot:BTCUSDT    ━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌  126,002 of 1,200,283  9,812/s  2 min left",
        "um:ETHUSDT      ━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌     72,000 of 600,000  1,600/s  6 min left  41 s for weight",
        "spot:ETHUSDT    live, lag 40 ms, newest trade 1 s ago",
        "cm:BTCUSD_PERP  complete, newest trade 1 s ago, next check in 12 s",
    ]


def test_words_stay_when_figures_drop() -> None:
    wide, narrow = texts(row_lines(ROWS, 80)), texts(row_lines(ROWS, 50))
    assert "126,002 of 1,200,283" in wide[0]
    assert wide[0].endswith("2 min left")
    assert wide[1].endswith("41 s for weight")
    assert "10 %" in narrow[0]
    assert "126,002" not in narrow[0]
    assert narrow[1].endswith("41 s for weight")
    assert wide[3] == "cm:BTCUSD_PERP  complete, newest trade 1 s ago, next check in 12 s"
    assert narrow[3] == "cm:BTCUSD_PERP  complete, newest trade 1 s ago"


def test_words_that_do_not_fit_beside_stand_below_whole() -> None:
    lines = texts(row_lines([FAILING], 60))
    assert " ".join(line.strip() for line in lines[1:]) == ", ".join(FAILING.words)


def test_an_instrument_without_words_is_its_name() -> None:
    assert texts(row_lines([Row("spot:BTCUSDT", "starting")], 40)) == ["spot:BTCUSDT"]
    assert row_lines([], 40) == []


words = st.text("abcdefgh ", min_size=1, max_size=30).map(str.strip).filter(bool)
rows = st.builds(
    Row,
    st.sampled_from(["spot:BTCUSDT", "um:1000SHIBUSDT", "cm:BTCUSD_PERP"]),
    st.sampled_from(["starting", "fetching", "complete", "live", "failing"]),
    st.integers(0, 10**8),
    st.integers(0, 10**9),
    st.floats(0, 1e6),
    st.lists(words, max_size=3).map(tuple),
)


@given(st.lists(rows, max_size=6), st.integers(40, 200))
def test_no_line_is_wider_than_the_terminal_and_every_first_word_is_there(rows: list[Row], width: int) -> None:
    lines = texts(row_lines(rows, width))
    assert all(len(line) <= width for line in lines)
    assert not any("…" in line for line in lines)
    shown = " ".join(line.strip() for line in lines).split()
    for row in rows:
        assert row.instrument in shown
        assert not row.words or set(row.words[0].replace(",", " ").split()) <= {each.strip(",") for each in shown}


def test_many_instruments_show_those_that_wait_and_count_the_others() -> None:
    many = [Row(f"spot:A{n}", "complete", words=("complete",)) for n in range(100)]
    lines = texts(screen_lines([*many, WAITING], ["spot weight 5 of 4,800 per 1m"], 80, 24))
    assert len(lines) <= 22
    assert "um:ETHUSDT" in lines[0]
    assert lines[-2] == f"and {101 - (len(lines) - 2)} more"


def test_notes_stand_side_by_side_as_they_fit() -> None:
    notes = ["spot weight 468 of 4,800 per 1m, others 800", "futures weight 1,881 of 1,920 per 1m"]
    assert len(part_lines(notes, 100)) == 1
    assert texts(part_lines(notes, 60)) == notes


def test_durations() -> None:
    assert [duration(each) for each in (0.4, 41, 99.4, 150, 7_100, 9_000)] == [
        "0 s",
        "41 s",
        "99 s",
        "2 min",
        "118 min",
        "2.5 h",
    ]
