"""Which libraries the daemon imports on its way, and a program that imports just those."""

import sys
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.exchange import INSTRUMENT, ServedExchange
from tests.benchmarks.measure import run_process


def libraries_of_daemon(exchange: ServedExchange, cache: Path) -> list[str]:
    """Every module of another project that ``backfilld run --once`` imports."""
    environment = {"BACKFILL_SPOT_URL": exchange.url, "BACKFILL_CACHE_DIR": str(cache)}
    daemon = ["-X", "importtime", "-m", "backfilld", "run", "--once", "--instrument", str(INSTRUMENT)]
    run = run_process(daemon, environment)
    lines = (line for line in run.stderr.splitlines() if line.startswith("import time:"))
    modules = (line.rpartition("|")[2].strip() for line in lines)
    return [module for module in modules if _is_foreign(module)]


def bare_import(modules: Iterable[str]) -> str:
    """A program that imports the modules and does nothing else; those that the libraries try in vain it tries too."""
    return f"""
for module in {" ".join(modules)!r}.split():
    try:
        __import__(module)
    except ImportError:
        pass
"""


def _is_foreign(module: str) -> bool:
    package = module.partition(".")[0]
    return package.isidentifier() and package != "backfilld" and package not in sys.stdlib_module_names
