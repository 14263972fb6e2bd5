"""The log events that docs/reference-events.md promises are those that the program emits, with their fields."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from backfilld.core.retry import Restarts
from backfilld.errors import RateLimited, StoreError, TransientError
from backfilld.supervisor import run_pipeline
from tests.fakes import BTC, ETH, Misbehaviour, Tape, lose, refuse
from tests.pipelines import World, stopped, world_of

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "daemon" / "backfilld"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
LOGGERS = {"log", "about"}
CONTEXT = {"instrument", "market", "day"}
"""What a line is about; it may be bound to the logger, and need not be repeated in the table."""


@dataclass
class Emitted:
    """What the source says of an event, over all places that emit it."""

    fields: set[str] = field(default_factory=set)
    levels: set[str] = field(default_factory=set)
    is_open: bool = False


def emitted() -> dict[str, Emitted]:
    """The events that the package's source emits."""
    found: defaultdict[str, Emitted] = defaultdict(Emitted)
    for path in sorted(PACKAGE.rglob("*.py")):
        if "simulator" in path.relative_to(PACKAGE).parts:
            continue
        for call in _log_calls(path):
            (name,) = call.args
            assert isinstance(name, ast.Constant), f"{path.name}:{call.lineno}: the event's name is no literal"
            event = found[str(name.value)]
            event.fields |= {word.arg for word in call.keywords if word.arg}
            event.is_open |= any(word.arg is None for word in call.keywords)
            assert isinstance(call.func, ast.Attribute)
            event.levels.add(call.func.attr)
    return dict(found)


def _log_calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            logger = node.func.value
            name = logger.attr if isinstance(logger, ast.Attribute) else getattr(logger, "id", "")
            if name in LOGGERS:
                yield node


def promised() -> dict[str, set[str]]:
    """The events of the documented tables, and their fields."""
    text = (ROOT / "docs" / "reference-events.md").read_text()
    rows = re.findall(r"^\| (?!event )([a-z_]+) \| ([^|]*)\|", text, flags=re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows}), "an event has two rows"
    return {
        name: {word.strip() for word in re.sub(r"\([^)]*\)", "", fields).split(",") if word.strip()}
        for name, fields in rows
    }


EMITTED, PROMISED = emitted(), promised()


def test_the_source_is_understood() -> None:
    """Every call of a level on anything that is called a logger was read, and every logger is called like one."""
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if "simulator" not in path.parts)
    assert len(EMITTED) > 40
    assert len(re.findall(r"\b(?:log|about)\.(?:debug|info|warning|error|exception|critical)\(", text)) >= len(EMITTED)
    bound = set(re.findall(r"(\w+) = (?:structlog\.get_logger\(|log\.bind\()", text))
    assert bound <= LOGGERS


def test_what_is_documented_is_emitted() -> None:
    assert sorted(PROMISED.keys() - EMITTED.keys()) == []


def test_what_is_emitted_at_info_and_above_is_documented() -> None:
    audible = {name for name, event in EMITTED.items() if event.levels != {"debug"}}
    assert sorted(audible - PROMISED.keys()) == []


@pytest.mark.parametrize("name", sorted(PROMISED.keys() & EMITTED.keys()))
def test_an_event_has_the_fields_that_are_documented(name: str) -> None:
    event, fields = EMITTED[name], PROMISED[name]
    assert event.fields - CONTEXT <= fields, "emitted, and not named"
    if not event.is_open:
        assert fields - CONTEXT <= event.fields, "named, and not emitted"


# -- real runs


def daemon(**changed: object) -> World:
    values: dict[str, object] = {"once": False, "restarts": Restarts(), "is_patient": True, "checkpoint_s": 0.5}
    return world_of(**(values | changed))  # type: ignore[arg-type]


def tribulations() -> World:
    """A run in which much goes wrong."""
    world = daemon(instruments=(BTC, ETH))
    world.exchange.grows = True
    start_ms = world.exchange.epoch_ms - 20_000
    world.exchange.tapes = {each: Tape.even(9_000, start_ms=start_ms, step_ms=50) for each in (BTC, ETH)}

    def crash(*_: object) -> None:
        raise RuntimeError("a bug")

    world.exchange.misbehaves = [
        Misbehaviour(refuse(RateLimited("429", retry_after_s=5, banned=False)), times=1),
        Misbehaviour(lose(TransientError("timeout")), times=3),
        Misbehaviour(crash),  # type: ignore[arg-type]
    ]
    return world


async def test_what_real_runs_log_is_what_is_documented(autojump_clock: MockClock) -> None:
    """Every line, with every field that it has in truth, from a good run and from one in which much goes wrong."""
    with capture_logs() as lines:
        await daemon(once=True, restarts=None).run()
        world = tribulations()
        pipeline = world.pipeline()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_pipeline, pipeline)
            await trio.sleep(40)
            world.store.fails["save"] = StoreError("disk full")
            await trio.sleep(60)
            world.store.fails.clear()
            await trio.sleep(60)
            stopped(pipeline)
    names = {line["event"] for line in lines}
    expected = {"backfill_completed", "pipeline_crashed", "exchange_paused", "governor_state", "request_retried"}
    assert expected | {"disk_failed", "disk_recovered"} <= names
    for line in lines:
        said = line.keys() - {"event", "log_level"} - CONTEXT
        assert said <= PROMISED[line["event"]], line
        assert line["log_level"] in EMITTED[line["event"]].levels
