"""Which days of a cache are wrong by what verify found, and what a repair may do about each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from backfilld.core.day.certificate import REST
from backfilld.core.ids import IdSet
from backfilld.core.replication import DayName
from backfilld.services.verify import Verified
from backfilld.store.upkeep.inspection import Finding, Inspected

BAD_FILE = {"unreadable", "altered", "order", "duplicate", "time", "value", "certificate", "digest"}
"""The kinds of findings after which nothing of the file is believed: it is never put back."""

OTHER_ROWS = {"differs", "missing"}
"""The kinds of findings of a file that is sound in itself, and that the archive contradicts."""

LEFT_ALONE = {"newer", "locked", "refused"}
"""The kinds of findings of a file that is left as it is."""


@dataclass(slots=True)
class WrongDay:
    """What to do about a day. ``reason`` is why its file is moved aside, None for one that only lacks something;
    ``is_sound`` says that the file may be put back; ``exchange_decides`` that the archive may not fill the day."""

    reason: str | None = None
    is_sound: bool = True
    exchange_decides: bool = False


def wrong_days(verified: Verified) -> Mapping[DayName, WrongDay]:
    """The days with findings. Files that a newer program wrote, that no key opens, or that the disk refuses, are left
    alone."""
    days = {(each.instrument, each.day): each for each in verified.days}
    wrong: dict[DayName, WrongDay] = {}
    for finding in verified.findings:
        if finding.kind == "unencrypted":
            continue  # nothing is wrong with its rows
        key = finding.instrument, finding.day
        for each, reason in _concerned(finding, verified.days):
            its = wrong.setdefault(each, WrongDay())
            its.reason = its.reason or reason
            its.is_sound &= finding.kind not in BAD_FILE
        if finding.kind == "differs":
            wrong[key].exchange_decides |= _is_ours_from_exchange(days[key], finding)
    left = {(each.instrument, each.day) for each in verified.findings if each.kind in LEFT_ALONE}
    return {key: each for key, each in wrong.items() if key not in left}


def _concerned(finding: Finding, days: Sequence[Inspected]) -> Iterator[tuple[DayName, str | None]]:
    """The days that a finding makes wrong, and why their files are moved aside (None: they only lack something)."""
    key = finding.instrument, finding.day
    if finding.kind in BAD_FILE | OTHER_ROWS:
        yield key, finding.sentence
    elif finding.kind == "chain":
        # One of the two days is wrong, and nothing on disk can name it.
        before = max(
            each.day for each in days if each.instrument == finding.instrument and each.day < finding.day and each.facts
        )
        yield key, finding.sentence
        yield (finding.instrument, before), f"it does not join {finding.day}"
    else:
        yield key, None


def _is_ours_from_exchange(day: Inspected, finding: Finding) -> bool:
    """Whether a row that differs from the published one came from the exchange itself."""
    if day.facts is None or finding.ids is None:
        return False
    ours = IdSet.of(each.ids for each in day.facts.sources if each.source == REST)
    return bool(ours & IdSet((finding.ids,)))
