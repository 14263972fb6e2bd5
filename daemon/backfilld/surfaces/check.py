"""``backfilld status --check``: one line for a person or a monitoring system, and the exit code."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from backfilld.core.model import Instrument
from backfilld.services.check import check_cache
from backfilld.surfaces.words import counted, say


def print_check(cache_dir: Path, instruments: tuple[Instrument, ...] | None, max_lag_s: float, *, as_json: bool) -> int:
    """Print whether the cache is complete and fresh; return 0 if so, 1 if not, 75 if no daemon runs or reports."""
    found = check_cache(cache_dir, instruments, max_lag_s)
    if as_json:
        document = asdict(found) | {"reasons": list(found.reasons)}
        click.echo(json.dumps(document, ensure_ascii=False))
    elif found.reasons:
        for reason in found.reasons:
            say(reason)
    else:
        behind = "" if found.lag_s is None else f", at most {found.lag_s:.1f} s behind"
        say(f"complete: {counted(found.instruments, 'instrument')}{behind} (process {found.pid})")
    return found.exit_code
