"""What import-linter cannot see: where nurseries, channels and threads are opened, and what the core touches."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "daemon" / "backfilld"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
MAX_LINES = 300
IMPURE = {"trio", "trio_util", "anyio", "asyncio", "httpx", "structlog", "os", "pathlib", "time", "random", "threading"}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def names_in(module: str) -> set[str]:
    """Every name, attribute and imported name that the module mentions."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        match node:
            case ast.Attribute(attr=name) | ast.Name(id=name):
                names.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                names.update(part for alias in aliases for part in alias.name.split("."))
            case _:
                pass
    return names


def imports_of(module: str) -> Iterator[str]:
    """The dotted names of all that is imported, also inside functions."""
    for node in ast.walk(tree_of(module)):
        match node:
            case ast.Import(names=aliases):
                yield from (alias.name for alias in aliases)
            case ast.ImportFrom(module=source, names=aliases, level=level):
                assert level == 0, f"{module} imports relatively"
                yield from (f"{source}.{alias.name}" for alias in aliases)
            case _:
                pass


def where(name: str) -> set[str]:
    """The modules that mention a name."""
    return {module for module in MODULES if name in names_in(module)}


def inside(*places: str) -> set[str]:
    """The modules in these folders, and these modules."""
    return {module for module in MODULES if any(module == each or module.startswith(f"{each}/") for each in places)}


def test_there_is_something_to_look_at() -> None:
    """Else every rule below would hold of nothing."""
    assert len(MODULES) > 40
    assert "supervisor" in where("open_nursery") & where("open_memory_channel")
    assert "adapters/threads" in where("to_thread")


def test_nurseries_are_opened_only_where_lifetimes_are_owned() -> None:
    assert where("open_nursery") <= inside("supervisor", "supervisor_governor", "surfaces", "services", "serving")


def test_channels_are_opened_only_by_those_who_wire() -> None:
    """The assembly opens the one through which outcomes come out."""
    parts = ("channels", "governor", "live", "pools", "remote")
    wiring = inside("supervisor", *(f"supervisor_{part}" for part in parts), "surfaces", "assembly", "serving")
    assert where("open_memory_channel") <= wiring


def test_threads_are_started_only_in_adapters() -> None:
    """A thread hop inside an actor makes a virtual test clock leap to the drain's deadline. Verifying runs no loop, and
    published files are read and day files written on an adapter's thread already."""
    for name in ("to_thread", "from_thread", "start_thread_soon", "Thread"):
        assert where(name) <= inside("adapters"), name
    own = ("services/verify", "store/archive_import/archive_csv", "store/format/dayfile")
    assert where("ThreadPoolExecutor") <= inside("adapters", *own)


def test_no_lock_is_shared_between_actors() -> None:
    for name in ("Lock", "StrictFIFOLock", "Semaphore", "Condition"):
        assert where(name) == set(), name
    # It bounds the threads of one adapter, abandoned ones included.
    assert where("CapacityLimiter") <= {"adapters/object_store", "adapters/served_days"}


@pytest.mark.parametrize("module", sorted(inside("core")))
def test_the_core_is_pure(module: str) -> None:
    assert {name.split(".")[0] for name in imports_of(module)}.isdisjoint(IMPURE)
    calls = [node.func for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
    called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    assert called.isdisjoint({"now", "utcnow", "today"}), "the clock is read"
    assert names_in(module).isdisjoint({"open", "environ", "print", "input"})


@pytest.mark.parametrize("module", sorted(inside("actors")))
def test_actors_touch_no_file_no_network_and_no_chance(module: str) -> None:
    foreign = {"httpx", "pathlib", "os", "random", "socket"}
    assert {name.split(".")[0] for name in imports_of(module)}.isdisjoint(foreign)
    assert not any(name.startswith(("backfilld.adapters", "backfilld.store")) for name in imports_of(module))


@pytest.mark.parametrize("module", sorted(inside("store")))
def test_nobody_takes_what_the_disk_refuses_to_show_for_missing(module: str) -> None:
    """Path.exists and its like say no where a stat fails, by the version of Python, or raise what nobody translates:
    is_there knows the difference. Two modules ask /proc, which no disk is behind, and of files that they only sweep."""
    calls = [node.func for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
    called = {function.attr for function in calls if isinstance(function, ast.Attribute)}
    asks = {"exists", "lexists", "is_file", "isfile", "is_dir", "isdir"}
    assert called.isdisjoint(asks) or module in {"store/lock", "store/atomic"}


def test_only_the_demo_imports_the_simulator() -> None:
    assert {m for m in MODULES if any(n.startswith("binance_simulator") for n in imports_of(m))} == {
        "surfaces/demo",
        "surfaces/demo_live",
        "surfaces/demo_page",
    }


@pytest.mark.parametrize(("library", "places"), [("httpx", "adapters"), ("rich", "surfaces")])
def test_a_foreign_library_has_one_home(library: str, places: str) -> None:
    users = {module for module in MODULES if any(n.split(".")[0] == library for n in imports_of(module))}
    assert users
    assert users <= inside(places)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_says_what_it_owns(module: str) -> None:
    assert ast.get_docstring(tree_of(module))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_is_too_long_to_read_at_once(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_public_definition_of_a_module_says_what_it_promises(module: str) -> None:
    for node in tree_of(module).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module}.{node.name}"
