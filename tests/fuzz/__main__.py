"""``python -m tests.fuzz``: cases of a seed, one after the other, for some time. ``make fuzz SEED=1 SECONDS=45``.

``--case 1/17`` repeats one case. Ends with 1 if a promise was broken, after a line for each.
"""

import sys
import tempfile
import time
from pathlib import Path

import click
import trio

from tests.fuzz.cases import make_case
from tests.fuzz.driver import Verdict, try_case


@click.command()
@click.option("--seed", default=1, show_default=True, help="The cases are numbered SEED/1, SEED/2, and so on.")
@click.option("--seconds", default=45.0, show_default=True, help="No case begins after so many seconds.")
@click.option("--case", "single", default=None, help="Repeat this one, such as 1/17.")
def main(seed: int, seconds: float, single: str | None) -> None:
    """Drive the real process against an exchange that misbehaves at random, and hold its promises."""
    began, number, broken = time.monotonic(), 0, 0
    while single is None or number == 0:
        number += 1
        if time.monotonic() - began > seconds:
            break
        with tempfile.TemporaryDirectory(prefix="backfilld-fuzz-") as directory:
            verdict = trio.run(try_case, make_case(single or f"{seed}/{number}"), Path(directory))
        report(verdict)
        broken += bool(verdict.broken)
    click.echo(f"{number if single else number - 1} cases, {broken} broke a promise")
    sys.exit(broken > 0)


def report(verdict: Verdict) -> None:
    """A line for the case, and one for each broken promise."""
    figures = f"exits {verdict.codes}, {verdict.requests} requests, {verdict.memory_kb // 1024} MB"
    click.echo(f"{'BROKEN' if verdict.broken else 'ok':6} {verdict.case.seed}: {figures}; {verdict.case.summary()}")
    for sentence in verdict.broken:
        click.echo(f"       {sentence}")


if __name__ == "__main__":
    main()
