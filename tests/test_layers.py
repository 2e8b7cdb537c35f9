"""Imports point one way, each library has one door, and importing the package loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mpicluster

ROOT = Path(mpicluster.__file__).parent
GROUND = {"errors", "ids", "config"}
#: who may import whom; a part may always import itself and the ground
ALLOWED = {
    "tracebacks": set(),
    "errors": {"tracebacks"},  # when IPython shows one
    "error": {"errors"},
    "gone": set(),
    "ids": {"errors"},
    "buffers": set(),
    "config": set(),
    "here": set(),
    "selector": set(),
    "wire": GROUND,
    "serial": GROUND | {"buffers"},
    "hub": GROUND | {"wire", "selector"},
    "engine": GROUND | {"wire", "serial", "selector", "array", "buffers"},
    "array": GROUND | {"here", "linalg", "buffers"},  # these two are one part
    "linalg": GROUND | {"here", "array", "buffers"},
    # of arrays: names and layouts, see below
    "client": GROUND | {"wire", "serial", "selector", "tracebacks", "array", "buffers", "batch", "launch"},
    "datapub": {"serial", "engine"},
    "launch": GROUND,
    "batch": GROUND | {"wire", "launch"},
    "cluster": GROUND | {"here", "wire", "serial", "hub", "engine", "client", "launch", "batch"},
    "cli": GROUND | {"wire", "client", "cluster", "launch", "batch"},
}
#: the only modules that may import a library
DOORS = {
    "mpi4py": {"array.mesh", "engine.comm", "launch.installed", "launch.mpi"},
    "zmq": {"selector", "hub.router", "hub.gate", "engine.loop", "engine.control", "client.connection", "client.lasting", "cluster.worker"},
    "IPython": {"engine.shell", "client.magics"},
    "tqdm": {"client.progress"},
    "sqlite3": {"hub.store"},
    "subprocess": {"launch.process", "launch.hub", "launch.installed", "launch.mpi"},
    "click": {"cli.group", "cli.clusters", "cli.batch", "cli.connect"},
    "h5py": {"array.hdf5"},
    "zarr": {"array.zarr"},
    "joblib": {"client.joblib_backend"},
    "distributed": {"client.dask_cluster"},
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append((".".join(p for p in parts if p != "__init__"), path))
    return [(name, path) for name, path in found if name and name != "__main__"]


def imports(path: Path) -> set[str]:
    """Full names of all that a file imports, inside functions too, but not for type checkers alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and isinstance(test.test, ast.Name) and test.test.id == "TYPE_CHECKING"
        for child in test.body
        for node in ast.walk(child)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_point_one_way(name, path):
    part = name.partition(".")[0]
    used = {x.removeprefix("mpicluster.").partition(".")[0] for x in imports(path) if x.startswith("mpicluster.")}
    assert used - {part} <= ALLOWED[part] | {"__version__"}


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_library_has_its_door(library):
    users = {name for name, path in modules() if any(x.partition(".")[0] == library for x in imports(path))}
    assert users <= DOORS[library]


def test_importing_loads_nothing_heavy():
    """No MPI, no sockets, no arrays, no shell, nothing optional."""
    heavy = ("mpi4py", "zmq", "numpy", "IPython", "msgspec", "tqdm", "joblib", "distributed")
    code = f"import sys, mpicluster; print(*(m for m in {heavy} if m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_of_arrays_others_know_what_needs_no_mpi():
    """... but for the one module by which an engine holds them."""
    free = ("array", "array.elements", "array.extremes", "array.layout", "array.operators", "array.part", "array.steps")
    for name, path in modules():
        if name.partition(".")[0] not in ("array", "linalg") and name != "engine.arrays":
            used = {x.removeprefix("mpicluster.") for x in imports(path) if x.startswith(("mpicluster.array", "mpicluster.linalg"))}
            assert all(x in free or x.rpartition(".")[0] in free for x in used), (name, used)


def test_the_client_loads_no_mpi():
    code = "import sys, mpicluster; mpicluster.Client; mpicluster.DirectView; print('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False"]


def test_every_module_says_what_it_exports_and_what_it_is_for():
    for name, path in modules():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), name
        if path.name != "__init__.py":
            assert "__all__" in path.read_text(), name
