"""The heat equation with arrays, as one writes it in NumPy: `python examples/arrays_heat.py`.

u_t = u_xx + u_yy by explicit Euler steps. Slices of a divided array exchange the rows at the edges of the blocks by themselves; see
`heat_spmd.py` for the same by hand. The function runs on NumPy arrays, too, and gives the same numbers.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def evolve(u, steps):
    """So many steps from a field whose edge stays as it is. For any array that knows slices."""
    for _ in range(steps):
        inner = u[1:-1, 1:-1] + 0.2 * (u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:] - 4 * u[1:-1, 1:-1])
        u[1:-1, 1:-1] = inner
    return u


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--size", type=int, default=203, help="grid points in each direction")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", default="arrays_heat.png")
    arguments = parser.parse_args()

    x = np.linspace(-1, 1, arguments.size)
    start = np.where(np.hypot(x[:, np.newaxis] + 0.3, x - 0.2) < 0.3, 1.0, 0.0)
    start[(np.abs(x[:, np.newaxis] - 0.5) < 0.1) & (np.abs(x + 0.4) < 0.35)] = 0.8
    with mpicluster.Cluster(n=arguments.n) as rc:
        result = np.asarray(evolve(rc.xp.asarray(start), arguments.steps))
    difference = float(abs(result - evolve(start.copy(), arguments.steps)).max())
    print(f"{arguments.steps} steps on {arguments.n} engines, {arguments.size} x {arguments.size} points")
    print(f"largest difference from NumPy: {difference:.1e}")
    if difference > 1e-13:
        raise SystemExit("the solutions differ")

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    for ax, field, title in zip(axes, (start, result), ("start", f"after {arguments.steps} steps"), strict=True):
        image = ax.imshow(field, cmap="inferno", vmin=0, vmax=1)
        ax.set(title=title, xlabel="x", ylabel="y")
    figure.colorbar(image, ax=axes, label="temperature")
    figure.savefig(arguments.output, dpi=120)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
