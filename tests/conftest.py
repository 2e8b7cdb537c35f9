"""SPMD tests: a test marked ``spmd`` is run by every engine of clusters of 1, 2, 3 and 4, as one call of ``view.spmd``.

Its ``comm`` is the engines' communicator; its other arguments come from ``parametrize``. The clusters are shared by all such tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mpicluster
from mpicluster.client.client import Client
from mpicluster.launch import process
from mpicluster.wire.contact import Contact

#: Test functions travel by name: engines must be able to import their modules.
FOLDERS = [str(Path(__file__).parent / name) for name in ("array", "linalg")]
SIZES = (1, 2, 3, 4)
#: Seconds for one test on one cluster: it takes a few at most, but machines differ.
_LIMIT = 120


class Engines:
    """One cluster of each size, started when it is first asked for."""

    def __init__(self, stack: ExitStack, environment: dict[str, str]) -> None:
        self._stack = stack
        self._environment = environment
        self._clusters: dict[int, mpicluster.Cluster] = {}
        self._clients: dict[int, Client] = {}

    def __call__(self, n: int) -> Client:
        if n not in self._clients:
            with pytest.MonkeyPatch.context() as patch:
                for name, value in self._environment.items():
                    patch.setenv(name, value)
                self._clusters[n] = mpicluster.Cluster(n=n, profile=f"spmd-{n}")
                self._clients[n] = self._stack.enter_context(self._clusters[n])
        return self._clients[n]

    def discard(self, n: int) -> None:
        """End a cluster whose engines did not come back from a test: the next test starts another."""
        del self._clients[n]
        self._clusters.pop(n).stop()


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """``engines(3)`` is a client of three engines. At the end no process, contact file or socket may be left."""
    state, sockets = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("run")
    path = os.pathsep.join([*FOLDERS, *filter(None, [os.environ.get("PYTHONPATH")])])
    with ExitStack() as stack:
        yield Engines(stack, {"MPICLUSTER_STATE_DIR": str(state), "XDG_RUNTIME_DIR": str(sockets), "PYTHONPATH": path})
    deadline = time.monotonic() + 15
    while left := [*process.marked("MPICLUSTER_STATE_DIR", str(state)), *state.glob("*/*.json"), *sockets.iterdir()]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)


@pytest.fixture
def comm() -> None:
    """The engines' communicator: ``view.spmd`` gives it."""


def pytest_generate_tests(metafunc: Any) -> None:
    marker = metafunc.definition.get_closest_marker("spmd")
    if marker is not None:
        metafunc.fixturenames.append("ranks")
        metafunc.parametrize("ranks", marker.args or SIZES, ids=lambda n: f"{n}-ranks")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    if pyfuncitem.get_closest_marker("spmd") is None:
        return None
    clusters: Engines = pyfuncitem._request.getfixturevalue("engines")
    values = {n: pyfuncitem.funcargs[n] for n in pyfuncitem._fixtureinfo.argnames if n != "comm"}
    if "monkeypatch" in values:
        pytest.fail("what is patched on engines would stay so: use pytest.MonkeyPatch.context() in the test's body")
    ranks = pyfuncitem.callspec.params["ranks"]
    try:
        clusters(ranks)[:].spmd(pyfuncitem.obj, **values).get(_LIMIT)
    except TimeoutError:
        clusters.discard(ranks)
        raise
    return True


@pytest.fixture
def some_contact() -> Callable[..., Contact]:
    """Makes the contact of a cluster of another host, unless told otherwise."""

    def make(**changes: Any) -> Contact:
        known: dict[str, Any] = {
            "cluster": "x",
            "profile": "default",
            "host": "elsewhere",
            "hub_pid": 1,
            "hub_started": "1",
            "ipc": "",
            "tcp": ["tcp://10.0.0.1:1"],
            "server_key": "",
            "client_public": "",
            "client_secret": "",
            "engines": 2,
            "mpi": "MPI",
            "survives": True,
            "started": 1.0,
            "log_dir": "/nowhere",
        }
        return Contact(**{**known, **changes})

    return make
