"""A reader of the log that stands still, or goes."""

import errno
import fcntl
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from backfilld.surfaces.log_outlet import LogOutlet
from tests.e2e.world import BTC, Daemon, exchange_at, generated


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ours, theirs = os.pipe()
    yield ours, theirs
    os.close(theirs)
    os.close(ours)


def fill(descriptor: int) -> int:
    """Fill a pipe that nobody reads; returns how many bytes it took."""
    os.set_blocking(descriptor, False)
    filled = 0
    try:
        while True:
            filled += os.write(descriptor, b"." * 4096)
    except BlockingIOError:
        os.set_blocking(descriptor, True)
    return filled


def read_all(descriptor: int, count: int) -> bytes:
    found = b""
    while len(found) < count:
        found += os.read(descriptor, count - len(found))
    return found


def test_a_reader_that_stands_still_is_not_waited_for(pipe: tuple[int, int]) -> None:
    reads, writes = pipe
    filled = fill(writes)
    outlet = LogOutlet(writes, most_waiting=100)
    began_s = time.monotonic()
    for number in range(1000):
        outlet.put(b"line %04d\n" % number)
    assert time.monotonic() - began_s < 1
    assert outlet.left_out() == 0, "not before what waits is written"
    assert read_all(reads, filled) == b"." * filled
    outlet.finish()
    assert os.read(reads, 65_536) == b"".join(b"line %04d\n" % number for number in range(10))
    assert outlet.left_out() == 990
    outlet.put(b"and on\n")
    assert os.read(reads, 65_536) == b"and on\n"
    assert outlet.left_out() == 0


@given(st.lists(st.tuples(st.integers(1, 9000), st.booleans()), max_size=40))
def test_whole_lines_come_out_in_sequence_and_the_others_are_counted(steps: list[tuple[int, bool]]) -> None:
    """Lines of any length; ``reads`` says after which of them the reader takes what is there."""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    outlet, came, left_out = LogOutlet(theirs, most_waiting=20_000), b"", 0
    try:
        for number, (length, reads) in enumerate(steps):
            outlet.put(b"%d%s\n" % (number, b"." * length))
            left_out += outlet.left_out()
            if reads:
                came += readable(ours)
                outlet.finish(0)
        while piece := readable(ours):
            came += piece
            outlet.finish(0)
    finally:
        os.close(ours)
        os.close(theirs)
    lines = [line.partition(b".") for line in came.splitlines()]
    numbers = [int(number) for number, _, _ in lines]
    assert numbers == sorted(set(numbers))
    assert all(len(rest) + 1 == steps[int(number)][0] for number, _, rest in lines)
    assert len(numbers) + left_out + outlet.left_out() == len(steps)


def readable(descriptor: int) -> bytes:
    return os.read(descriptor, 65_536) if select.select([descriptor], [], [], 0)[0] else b""


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait while the disk is full, and are whole and in sequence afterwards."""
    path, is_full, write = tmp_path / "log", True, os.write

    def write_if_there_is_room(descriptor: int, line: bytes) -> int:
        if is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, line)

    monkeypatch.setattr(os, "write", write_if_there_is_room)
    with path.open("wb") as file:
        outlet = LogOutlet(file.fileno(), most_waiting=8)
        for line in (b"one\n", b"two\n", b"six\n"):
            outlet.put(line)
        assert path.read_bytes() == b""
        is_full = False
        outlet.finish()
    assert path.read_bytes() == b"one\ntwo\n"
    assert outlet.left_out() == 1


def test_a_reader_that_has_gone_is_an_error() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with pytest.raises(BrokenPipeError):
        LogOutlet(writes).put(b"line\n")
    os.close(writes)


async def test_a_backfill_whose_log_nobody_reads_is_complete(tmp_path: Path) -> None:
    """The pipe is full before it starts."""
    ours, theirs = os.pipe()
    fill(theirs)
    try:
        async with exchange_at(16, {BTC: generated(5_000)}) as exchange:
            daemon = Daemon(exchange, tmp_path / "cache", {"LOG_LEVEL": "debug"})
            with trio.fail_after(60):
                command = daemon.command("run", "--once")
                done = await trio.run_process(
                    command, env=daemon.environment(), cwd=tmp_path, stdout=theirs, check=False
                )
            assert done.returncode == 0
            assert daemon.stored().equals(daemon.tape_of_today())
    finally:
        os.close(ours)
        os.close(theirs)
