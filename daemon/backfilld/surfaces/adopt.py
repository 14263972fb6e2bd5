"""``backfilld adopt``: what became of the files of an earlier program, in words."""

from collections.abc import Iterator
from pathlib import Path

from backfilld.core.model import Instrument
from backfilld.errors import EXIT_DONE, EXIT_INCOMPLETE
from backfilld.services.adopt import Adoption
from backfilld.services.adopt import adopt as adopt_files
from backfilld.store.format.dayfile import Encoding
from backfilld.surfaces.bar import progress_bar
from backfilld.surfaces.table import Column, table_lines, terminal_width
from backfilld.surfaces.words import counted, say

COLUMNS = (
    Column("file"),
    Column("rows", right=True),
    Column("doubled", right=True, rank=2),
    Column("of other days", right=True, rank=3),
    Column("conflicts", right=True, rank=1),
    Column("added", right=True),
)


def adopt(directory: Path, cache_dir: Path, instrument: Instrument, encoding: Encoding) -> int:
    """Take over the files of ``directory``, print what became of each, and return the exit code."""
    with progress_bar() as watch:
        adoption = adopt_files(directory, cache_dir, instrument, encoding, watch)
    rows = [
        (each.path.name, *_shown(each.rows, each.doubled, sum(each.strays.values()), each.conflicts, each.added))
        for each in adoption.taken
    ]
    for line in table_lines(COLUMNS, rows, terminal_width()):
        say(line)
    for sentence in (*_remarks(adoption), *adoption.refused, _summary(adoption, instrument)):
        say(sentence)
    return EXIT_INCOMPLETE if adoption.refused else EXIT_DONE


def _shown(*figures: int) -> tuple[str, ...]:
    return tuple(f"{figure:,}" for figure in figures)


def _remarks(adoption: Adoption) -> Iterator[str]:
    for each in adoption.taken:
        if each.strays:
            where = ", ".join(f"{rows:,} to {day}" for day, rows in sorted(each.strays.items()))
            yield f"{each.path.name} has rows of other days, which went there: {where}"
        if each.conflicts:
            yield f"{each.path.name}: {each.conflicts:,} rows differ from stored ones of the same ids, which stay"


def _summary(adoption: Adoption, instrument: Instrument) -> str:
    taken = adoption.taken
    added, rows = sum(each.added for each in taken), sum(each.rows for each in taken)
    left = f", {counted(len(adoption.refused), 'file')} not taken" if adoption.refused else ""
    return (
        f"{counted(len(taken), 'file')} with {counted(rows, 'row')} taken over for {instrument}: "
        f"{counted(added, 'trade')} added, {counted(len(adoption.sealed), 'day')} sealed by their neighbours{left}; "
        "the originals are as they were"
    )
