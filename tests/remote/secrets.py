"""What of a secret could be seen: in texts, in files, and in the processes of this machine, as ps shows them."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from backfilld.store.format.keys import Key
from tests.remote.radosgw import SECRET_KEY


def forms_of(key: Key) -> list[bytes]:
    """A key as it is, and as text."""
    return [key.secret, b64encode(key.secret), key.secret.hex().encode()]


SECRET = SECRET_KEY.encode()


def tree_of(process: int) -> Iterator[int]:
    """A process and all that it started, and they."""
    yield process
    with suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from tree_of(int(child))


def shown_by_ps(process: int) -> list[bytes]:
    """The command lines of a process and of all that it started."""
    return _of_tree(process, "cmdline")


def environments(process: int) -> list[bytes]:
    """What stands in the environments of a process and of all that it started."""
    return _of_tree(process, "environ")


def _of_tree(process: int, name: str) -> list[bytes]:
    found = []
    for each in tree_of(process):
        with suppress(OSError):
            found.append(Path(f"/proc/{each}/{name}").read_bytes())
    return found
