"""Communicators of some engines, on 1 to 4 ranks of the MPI that is installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mpicluster.launch import mpi

SCRIPT = """
import itertools, os, sys
from pickle import UnpicklingError
from mpicluster.engine.world import MPI, World, WorldBroken

world = World()
groups = [g for k in range(1, world.size + 1) for g in itertools.permutations(range(world.size), k)]
for turn in range(3):
    for number, engines in enumerate(groups):
        if world.id not in engines:
            continue
        comm = world.group(engines, 0, keep=number % 2 == 0)
        assert comm.size == len(engines), (comm.size, engines)
        assert comm.rank == engines.index(world.id)
        assert comm.allgather(world.id) == list(engines)
        world.release()
kept = {g for n, g in enumerate(groups) if n % 2 == 0 and world.id in g and list(g) != world.members}
assert set(world._groups) == kept, world._groups
for comm in world._groups.values():
    assert comm.allreduce(1) == comm.size
try:
    world.group([0], 1, keep=True)
except WorldBroken:
    pass
else:
    raise SystemExit("a group of an epoch that is not")
assert not world.explains(UnpicklingError("x"))
world.was_freed = True  # what came of a message may be no message
assert world.explains(UnpicklingError("x")) and not world.explains(ValueError("x")) and not world.explains(None)
try:
    raise KeyError from UnpicklingError("x")
except KeyError as e:
    assert world.explains(e)
world.comm.barrier()
if world.rank == 0:
    print("fine", world.size)
world.finalize()
"""


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_groups_are_kept_or_freed_by_all_their_members(n):
    """Any subset in any order, made again and again."""
    installation = mpi.installation()
    env = mpi.environment(installation, os.environ, root=os.geteuid() == 0)
    argv = mpi.command(installation, n, [sys.executable, "-c", SCRIPT])
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == f"fine {n}", done.stderr
