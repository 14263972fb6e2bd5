"""How the process ends."""

import subprocess
import sys

ABORTS = """
import atexit, os, sys, types
sys.modules["obstore"] = types.ModuleType("obstore")
atexit.register(os.abort)
sys.argv = ["backfilld", *sys.argv[1:]]
from backfilld.__main__ import main
main()
"""


def test_the_object_stores_threads_cannot_abort_a_command_that_is_done() -> None:
    done = subprocess.run([sys.executable, "-c", ABORTS, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("backfilld")
    refused = subprocess.run([sys.executable, "-c", ABORTS, "--nonsense"], capture_output=True, text=True, check=False)
    assert refused.returncode == 78
    assert "--nonsense" in refused.stderr


A_THREAD_RUNS = ABORTS.replace(
    'sys.modules["obstore"] = types.ModuleType("obstore")',
    "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
)


def test_a_thread_that_still_waits_for_the_disk_cannot_abort_a_command_that_is_done() -> None:
    done = subprocess.run(
        [sys.executable, "-c", A_THREAD_RUNS, "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("backfilld")


INTERRUPTED = """
import trio
from backfilld.surfaces import cli

async def work():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(interrupted)

async def interrupted():
    raise KeyboardInterrupt

cli.main = lambda: trio.run(work)
from backfilld.__main__ import main
main()
"""


def test_ctrl_c_in_a_task_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
