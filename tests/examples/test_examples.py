"""Each example does what it says, as a person runs it, and leaves nothing behind."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpicluster.launch import process

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to run in; afterwards no process, contact file or socket of the example may be left."""
    state, sockets, work = (tmp_path / name for name in ("state", "run", "work"))
    for path in (state, sockets, work):
        path.mkdir(mode=0o700)
    monkeypatch.setenv("MPICLUSTER_STATE_DIR", str(state))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    yield work
    deadline = time.monotonic() + 15
    while left := [*process.marked("MPICLUSTER_STATE_DIR", str(state)), *state.glob("*/*.json"), *sockets.iterdir()]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


def run(folder: Path, name: str, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args], cwd=folder, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def picture_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_tutorial_is_reproduced(folder):
    said = run(folder, "tutorial.py")
    assert "The tutorial is reproduced: 45 checks." in said
    assert "[0,1,2,3:apply]:" in said
    assert "importing numpy on engine(s)" in said


def test_the_grid_search_finds_the_same_as_a_serial_one(folder):
    """The data were pushed once; the best alpha and its accuracy are those of scikit-learn in one process."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_score
    from sklearn.naive_bayes import MultinomialNB

    said = run(folder, "grid_search.py", "--alphas", "3", "-n", "2")
    digits = load_digits()
    expected = cross_val_score(MultinomialNB(alpha=1e-2), digits.data, digits.target, cv=5).mean()
    assert f"  1.00e-02  {expected:.4f}" in said
    assert said.count("best") == 2
    width, height = picture_size(folder / "grid_search.png")
    assert width >= 600
    assert height >= 400


def test_the_random_search_reports_and_stops_when_interrupted(folder):
    child = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "random_search.py"), "--every", "0", "--seconds", "200", "-n", "2"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert child.stdout is not None
        first = child.stdout.readline()
        child.send_signal(signal.SIGINT)
        rest, _ = child.communicate(timeout=60)
    finally:
        child.kill()
        child.wait()
    assert "best so far" in first
    assert "interrupted" in rest
    assert rest.splitlines()[-1].startswith("best of "), rest
    assert child.returncode == 0


@pytest.mark.parametrize("n", [1, 3, 4])
def test_the_heat_equation_gives_what_one_process_gives(folder, n):
    said = run(folder, "heat_spmd.py", "-n", str(n), "--size", "101", "--steps", "60")
    assert "the same on every engine: True" in said
    assert "largest difference from the serial solution: 0.0e+00" in said
    assert picture_size(folder / "heat.png")[0] >= 800


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("arrays_tutorial", "close: True\npi: 3.14"),
        ("arrays_pca", "largest difference from scikit-learn's components"),
        ("arrays_ridge", "best penalty: 100, scikit-learn's: 100"),
        ("arrays_heat", "largest difference from NumPy: 0.0e+00"),
        ("arrays_deblur", "distance from the original"),
    ],
)
def test_arrays_give_what_one_process_gives(folder, name, said):
    assert said in run(folder, f"{name}.py", "-n", "3")
    assert picture_size(folder / f"{name}.png")[0] >= 500


@pytest.mark.parametrize("name", sorted(p.name for p in EXAMPLES.glob("*.py")))
def test_each_example_explains_itself(folder, name):
    assert "usage:" in run(folder, name, "--help")
