"""Clusters of 1 to 4 engines, shared by the tests of this folder, and the proof that nothing is left of them."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import mpicluster
from mpicluster.client.client import Client
from mpicluster.launch import process

#: Functions of test modules travel by name: engines must be able to import them.
HERE = str(Path(__file__).parent)


class Clusters:
    """One cluster of each size, started when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._clients: dict[int, Client] = {}

    def __call__(self, n: int) -> Client:
        if n not in self._clients:
            self._clients[n] = self._stack.enter_context(mpicluster.Cluster(n=n, profile=f"tests-{n}"))
        return self._clients[n]


@pytest.fixture(scope="package")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """``clusters(3)`` is a client of three engines. At the end no process, contact file or socket may be left."""
    state = tmp_path_factory.mktemp("state")
    sockets = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPICLUSTER_STATE_DIR", str(state))
        patch.setenv("XDG_RUNTIME_DIR", str(sockets))
        patch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
        with ExitStack() as stack:
            yield Clusters(stack)
        deadline = time.monotonic() + 15
        while left := [*process.marked("MPICLUSTER_STATE_DIR", str(state)), *state.glob("*/*.json"), *sockets.iterdir()]:
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.02)


@pytest.fixture(params=[1, 2, 3, 4], ids=lambda n: f"{n}-engines")
def rc(request: pytest.FixtureRequest, clusters: Clusters) -> Client:
    """A client of 1, 2, 3 and 4 engines in turn, with empty namespaces."""
    client = clusters(request.param)
    client.block = False
    client[:].clear(block=True)
    return client


@pytest.fixture
def rc4(clusters: Clusters) -> Client:
    """A client of four engines, with empty namespaces."""
    client = clusters(4)
    client.block = False
    client[:].clear(block=True)
    return client


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Client]]:
    """``fresh(4)`` starts a cluster for one test alone, to be broken."""
    state, sockets = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPICLUSTER_STATE_DIR", str(state))
        patch.setenv("XDG_RUNTIME_DIR", str(sockets))
        patch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
        with ExitStack() as stack:
            yield lambda n: stack.enter_context(mpicluster.Cluster(n=n, profile="fresh"))
        deadline = time.monotonic() + 15
        while left := [*process.marked("MPICLUSTER_STATE_DIR", str(state)), *state.glob("*/*.json"), *sockets.iterdir()]:
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.02)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Any]:
    """What tasks wait at until the test opens it, or ends."""
    from test_results import Gate  # where engines find it too

    gate = Gate(tmp_path)
    yield gate
    gate.open()


@pytest.fixture
def session() -> Iterator[Callable[[str], dict[str, Any]]]:
    """``session("def f(): ...")["f"]`` is a function of ``__main__``, as a person's own are."""
    names = sys.modules["__main__"].__dict__
    before = dict(names)

    def run(source: str) -> dict[str, Any]:
        exec(textwrap.dedent(source), names)
        return names

    yield run
    for name in set(names) - set(before):
        del names[name]
