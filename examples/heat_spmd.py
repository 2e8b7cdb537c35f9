"""The heat equation, SPMD: each engine has some rows and exchanges halos with its neighbours over MPI.

`python examples/heat_spmd.py` solves u_t = u_xx + u_yy by explicit Euler steps on all engines, compares the result with the
serial one, which has the same operations in the same order and so must be equal, and draws both ends.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def step(u):
    """One explicit step on the inner points; rows and columns at the edge are boundary."""
    new = u.copy()
    new[1:-1, 1:-1] += 0.2 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * u[1:-1, 1:-1])
    return new


def solve(steps):
    """Runs on every engine: `u` is its block of rows, `comm` the communicator of all."""
    import numpy as np
    from mpi4py import MPI

    global u
    none = MPI.PROC_NULL
    up = rank - 1 if rank > 0 else none  # noqa: F821
    down = rank + 1 if rank < size - 1 else none  # noqa: F821
    block = np.vstack([np.zeros_like(u[:1]), u, np.zeros_like(u[:1])])
    for _ in range(steps):
        comm.Sendrecv(block[1], dest=up, recvbuf=block[-1], source=down)  # noqa: F821
        comm.Sendrecv(block[-2], dest=down, recvbuf=block[0], source=up)  # noqa: F821
        first, last = (1 if up == none else 0), (-1 if down == none else None)
        block[first:last] = step(block[first:last])  # the outermost ranks have the boundary itself
    u = block[1:-1]
    return comm.allreduce(float(u.sum()))  # noqa: F821 - the total heat, everywhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--size", type=int, default=203, help="grid points in each direction")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--output", default="heat.png")
    arguments = parser.parse_args()

    start = np.zeros((arguments.size, arguments.size))
    third = arguments.size // 3
    start[third : 2 * third, third : 2 * third] = 1.0
    serial = start
    for _ in range(arguments.steps):
        serial = step(serial)
    with mpicluster.Cluster(n=arguments.n) as rc:
        engines = rc[:]
        engines.block = True
        engines.scatter("u", start)
        heat = engines.apply(solve, arguments.steps)
        result = engines.gather("u")
    difference = float(abs(result - serial).max())
    print(f"{arguments.steps} steps on {arguments.n} engines, {arguments.size} x {arguments.size} points")
    print(f"total heat {heat[0]:.6f}, the same on every engine: {len(set(heat)) == 1}")
    print(f"largest difference from the serial solution: {difference:.1e}")
    if difference > 1e-14:
        raise SystemExit("the solutions differ")

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    for ax, field, title in zip(axes, (start, result), ("start", f"after {arguments.steps} steps"), strict=True):
        image = ax.imshow(field, cmap="inferno", vmin=0, vmax=1)
        ax.set(title=title, xlabel="x", ylabel="y")
    for i in range(1, arguments.n):
        axes[1].axhline(i * arguments.size / arguments.n, color="white", linewidth=0.5, linestyle=":")
    figure.colorbar(image, ax=axes, label="temperature")
    figure.savefig(arguments.output, dpi=120)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
