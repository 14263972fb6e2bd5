"""What a test run starts ends with it, also if the run is killed."""

import os
import select
import subprocess
import sys
from pathlib import Path

RUN = """
import os, signal, subprocess, sys
from tests.orphans import killed_with_this_process
with killed_with_this_process():
    child = "import os, subprocess, time; subprocess.run(['sh', '-c', 'echo $$; exec sleep 600'])"
    subprocess.Popen([sys.executable, "-I", "-S", "-c", child], start_new_session=True)
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_no_process_behind() -> None:
    root = Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", RUN], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        grandchild = os.pidfd_open(int(run.stdout.readline()))
        try:
            assert not select.select([grandchild], [], [], 0)[0]
            run.stdin.write("\n")
            run.stdin.flush()
            assert select.select([grandchild], [], [], 60)[0], "the grandchild lives on"
        finally:
            os.close(grandchild)
