"""One rank runs out of memory, or fails otherwise, between two messages: all raise, and the next operation works."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from shortage import failing

import mpicluster.array as xp
from mpicluster.array import limits

pytestmark = pytest.mark.spmd(3)

#: rows and columns: enough not to be copied whole; a block is 240 kB
N = 300
#: what fails are allocations of so many bytes
LARGE = 100_000


def operands():
    rng = xp.random.default_rng(1)
    a = rng.standard_normal((N, N))
    return {
        "a": a,
        "s": a + a.T + 100 * xp.eye(N),
        "v": xp.reshape(a, (-1,)),
        "wide": xp.reshape(a, (3, -1)),
        "tall": xp.reshape(a, (-1, N // 10)),
        "small": a[: N // 10, : N // 10],
        "rows": rng.integers(0, N, N),
        "places": rng.integers(0, N * N, N * N),
        "mask": a > 0,
    }


def by_all(function, x):
    """As if it were too large to be copied to one rank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "GATHERED_UP_TO", 0)
        return function(x)


#: operations of which a rank does something between messages
OPERATIONS = {
    "transposing": lambda o: o["a"].T.redistribute(xp.Block(0)),
    "to a grid": lambda o: o["a"].redistribute(xp.BlockCyclic2D((1, 3), (64, 64))),
    "reshaping": lambda o: xp.reshape(o["a"].T, (-1,)),
    "all to every rank": lambda o: np.asarray(o["a"].T),
    "all to one rank": lambda o: o["a"].gather(1),
    "sorting a vector": lambda o: xp.sort(o["v"], descending=True),
    "sorting along the divided axis": lambda o: xp.sort(o["a"], axis=0),
    "argsort": lambda o: xp.argsort(o["v"]),
    "distinct elements": lambda o: xp.unique_all(o["v"]),
    "a mask": lambda o: o["a"][o["mask"]],
    "nonzero": lambda o: xp.nonzero(o["a"].T),
    "divided indices": lambda o: o["v"][o["places"]],
    "setting at divided indices": lambda o: o["v"].__setitem__(o["places"], o["v"]),
    "rows by number": lambda o: xp.take(o["a"], o["rows"], axis=0),
    "roll": lambda o: xp.roll(o["a"], 3, axis=0),
    "repeat": lambda o: xp.repeat(o["v"], 2),
    "diff": lambda o: xp.diff(o["a"], axis=0),
    "searchsorted": lambda o: xp.searchsorted(o["v"], o["v"]),
    "isin": lambda o: xp.isin(o["v"], o["v"]),
    "sums of long rows": lambda o: xp.sum(o["wide"].redistribute(xp.Block(0)), axis=0),
    "cumulative sums": lambda o: xp.cumulative_sum(o["a"], axis=0),
    "fft of a vector": lambda o: xp.fft.fft(o["v"]),
    "fft of several axes": lambda o: xp.fft.fftn(o["a"]),
    "matmul by a small matrix": lambda o: o["tall"] @ o["small"],
    "outer product": lambda o: o["rows"][:, None] @ o["rows"][None, :],
    "matmul": lambda o: o["a"].T @ o["s"],
    "cholesky": lambda o: xp.linalg.cholesky(o["s"].T, upper=True),
    "lu": lambda o: xp.linalg.lu(o["a"], permute_l=True),
    "solve": lambda o: xp.linalg.solve(o["a"], o["s"]),
    "inv": lambda o: xp.linalg.inv(o["a"]),
    "triangular": lambda o: xp.linalg.solve_triangular(o["s"], o["a"]),
    "qr": lambda o: xp.linalg.qr(o["a"]),
    "tall qr": lambda o: xp.linalg.qr(o["tall"]),
    "svd": lambda o: xp.linalg.svd(o["a"]),
    "tall svd": lambda o: xp.linalg.svd(o["tall"], full_matrices=False),
    "svd by all": lambda o: by_all(xp.linalg.svd, o["a"]),
    "eigh by all": lambda o: by_all(xp.linalg.eigh, o["s"]),
    "eigh": lambda o: xp.linalg.eigh(o["s"].T),
    "least squares": lambda o: xp.linalg.lstsq(o["tall"], o["tall"]),
    "random columns": lambda o: xp.random.default_rng(3).random((N, N), layout=xp.Block(1)),
    "permutation": lambda o: xp.random.default_rng(3).permutation(3 * N * N),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_memory_that_one_rank_lacks_is_an_error_of_all(comm, name):
    """Each large allocation of rank 1 fails in turn, until there is none left; then those of rank 0."""
    given = operands()
    large = 2 * LARGE if "by all" in name else LARGE  # what a panel needs is not agreed upon, and these have wide ones
    for rank in (1,) if name == "svd by all" else (1, 0):  # it makes many
        for turn in range(100):
            error = ""
            with failing(turn if comm.rank == rank else -1, large):
                try:
                    OPERATIONS[name](given)
                except MemoryError as e:
                    error = type(e).__name__
            said = comm.allgather(bool(error))
            assert len(set(said)) == 1, f"rank {rank}, allocation {turn}: {said}"
            assert float(xp.sum(xp.ones(10))) == 10
            if not error:
                break
        assert turn > 0 or rank == 0, "nothing was large"


def test_a_matrix_that_goes_round_needs_no_memory_on_the_way(comm):
    given = xp.random.default_rng(1).standard_normal((900, 900))
    for turn in range(3):
        with failing(turn if comm.rank == 1 else -1, LARGE), pytest.raises(MemoryError):
            given @ given
    np.testing.assert_allclose(np.asarray(given @ given), np.asarray(given) @ np.asarray(given))


def test_arithmetic_that_one_rank_refuses_is_an_error_of_all(comm):
    """In its own block (of two rows), and in what the ranks have together (of one)."""
    for rows, n in itertools.product((6, 3), (3, 40_000, 400_000)):  # a fold by an Allgather, by a tree, by a reduce-scatter
        x = xp.ones((rows, n), layout=xp.Block(0))
        if comm.rank == 1 or (comm.rank == 0 and rows == 3):
            x.local[...] = 1e308
        with np.errstate(over="raise"), pytest.raises(FloatingPointError):
            xp.sum(x, axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning):
                xp.sum(x, axis=0)
        assert float(xp.max(x)) == 1e308
