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
