"""How an engine's process ends: never with a status other than 0, unless Python ends in good order."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = "import ctypes, os, sys\nfrom mpicluster.engine.exits import exit_by_signal\nexit_by_signal()\n"
C = "ctypes.CDLL(None)"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("", 0),
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("raise ValueError", 1),
        ("os._exit(0)", 0),
        ("os._exit(1)", -9),
        ("__import__('posix')._exit(1)", -9),
        (f"{C}.exit(1)", -9),
        (f"{C}.exit(0)", -9),
        ("import atexit; atexit.register(print, 'heard'); sys.exit(3)", 3),
    ],
)
def test_how_it_ends(code, status):
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert ("heard" in done.stdout) == ("heard" in code)


@pytest.mark.parametrize("leave", ["sys.exit(3)", "os._exit(3)", f"{C}.exit(3)"])
def test_a_fork_exits_as_it_likes(leave):
    code = f"if os.fork() == 0:\n    {leave}\nprint(os.waitstatus_to_exitcode(os.wait()[1]))"
    done = subprocess.run([sys.executable, "-c", BEGIN + code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "3\n"
