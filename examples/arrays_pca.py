"""Principal components of handwritten digits, by the SVD of a tall matrix on the engines: `python examples/arrays_pca.py`.

The data are scikit-learn's bundled digits. Means are taken away on the engines; the matrix is never whole on one of them.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def pca(xp, data, components):
    """Scores, axes and shares of the variance of the first principal components of the rows of an array."""
    centred = data - xp.mean(data, axis=0)
    u, s, vh = xp.linalg.svd(centred, full_matrices=False)
    scores = u[:, :components] * s[:components]
    variance = np.asarray(s) ** 2
    return np.asarray(scores), np.asarray(vh[:components, :]), variance / variance.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--output", default="arrays_pca.png")
    arguments = parser.parse_args()

    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    digits = load_digits()
    with mpicluster.Cluster(n=arguments.n) as rc:
        scores, axes_of, share = pca(rc.xp, rc.xp.asarray(digits.data), 2)
    expected = PCA(n_components=2, svd_solver="full").fit(digits.data)
    difference = float(np.abs(np.abs(axes_of) - np.abs(expected.components_)).max())
    print(f"{digits.data.shape[0]} digits of {digits.data.shape[1]} pixels on {arguments.n} engines")
    print(f"the first two components have {100 * share[:2].sum():.1f} % of the variance")
    print(f"largest difference from scikit-learn's components: {difference:.1e}")
    if difference > 1e-10:
        raise SystemExit("the components differ")

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained", width_ratios=[3, 2])
    points = left.scatter(*scores.T, c=digits.target, cmap="tab10", s=8, vmin=-0.5, vmax=9.5)
    figure.colorbar(points, ax=left, ticks=range(10), label="digit")
    left.set(xlabel="first component", ylabel="second component", title="digits in their first two components")
    right.plot(np.arange(1, 65), 100 * np.cumsum(share), color="#4c72b0")
    right.set(xlabel="components", ylabel="share of the variance, %", ylim=(0, 102), title="how many are needed")
    right.grid(alpha=0.3)
    figure.savefig(arguments.output, dpi=120)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
