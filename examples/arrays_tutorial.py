"""The tutorial's exercises, with arrays that live on the engines: `python examples/arrays_tutorial.py`.

A dot product, a matrix product, and pi by throwing darts. Each is compared with NumPy in this process; the plot shows the darts.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--darts", type=int, default=1_000_000)
    parser.add_argument("--output", default="arrays_tutorial.png")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    v1, v2 = rng.random(1001), rng.random(1001)
    m1, m2 = rng.random((500, 1000)), rng.random((1000, 50))
    with mpicluster.Cluster(n=arguments.n) as rc:
        xp = rc.xp

        dot = float(xp.vecdot(xp.asarray(v1), xp.asarray(v2)))
        print(f"dot product: {dot:.12f}, NumPy's: {np.dot(v1, v2):.12f}, close: {np.allclose(dot, np.dot(v1, v2))}")

        product = xp.asarray(m1) @ xp.asarray(m2)
        print(f"matrix product: {product.shape}, close: {np.allclose(np.asarray(product), m1 @ m2)}")

        darts = xp.random.default_rng(1).uniform(-1, 1, (arguments.darts, 2))  # the same for any number of engines
        inside = xp.sum(darts**2, axis=1) <= 1
        pi = 4 * float(xp.mean(xp.astype(inside, xp.float64)))
        error = 4 * np.sqrt(np.pi / 4 * (1 - np.pi / 4) / arguments.darts)
        print(f"pi: {pi:.4f} +- {error:.4f}, from {arguments.darts} darts on {arguments.n} engines")
        shown, hit = np.asarray(darts[:500]), np.asarray(inside[:500])

    figure, axes = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    axes.set(aspect="equal", xticks=[], yticks=[], title=f"500 of {arguments.darts} darts: pi is about {pi:.4f}")
    axes.add_patch(mpl.patches.Circle((0, 0), 1, zorder=0, facecolor="#ffdddd"))
    axes.scatter(*shown[hit].T, s=9, color="#aa2222", label="inside")
    axes.scatter(*shown[~hit].T, s=9, color="#888888", label="outside")
    axes.legend(loc="upper right")
    figure.savefig(arguments.output, dpi=120)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
