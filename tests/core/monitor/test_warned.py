"""The newest warnings: bounded in number and in length."""

from backfilld.core.monitor.warned import MOST_CHARACTERS, WARNINGS, RecentWarnings


def test_warnings_and_errors_are_kept_the_newest_first_and_the_rest_is_not() -> None:
    recent = RecentWarnings()
    for level in ("debug", "info", "warning", "error"):
        line = {
            "event": f"{level}_happened",
            "level": level,
            "timestamp": "2026-11-07T01:02:03Z",
            "instrument": "spot:X",
        }
        recent.add(line)
    assert [(each.event, each.about) for each in recent.lines] == [
        ("error_happened", "instrument=spot:X"),
        ("warning_happened", "instrument=spot:X"),
    ]


def test_there_are_never_more_than_a_few_and_none_is_long() -> None:
    recent = RecentWarnings()
    for number in range(3 * WARNINGS):
        recent.add({"event": "e", "level": "warning", "error": f"{number} " + "x\n" * 10_000})
    assert len(recent.lines) == WARNINGS
    assert recent.lines[0].about.startswith(f"error={3 * WARNINGS - 1} x x")
    assert max(len(each.about) for each in recent.lines) <= MOST_CHARACTERS
