"""Ridge regression on random features, for many penalties from one SVD: `python examples/arrays_ridge.py`.

The data are scikit-learn's bundled diabetes study. Random cosine features of it make a tall matrix, which is divided among the engines;
its SVD gives the solution, and the leave-one-out error, for every penalty.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def leave_one_out(xp, features, target, penalties):
    """Root mean square of the leave-one-out residuals of ridge regression, for each penalty.

    With A = U S V^T, the fit is H b with H = U S^2 (S^2 + penalty)^-1 U^T, and the residual of a sample that was left out is
    (b - H b)_i / (1 - H_ii).
    """
    u, s, _ = xp.linalg.svd(features, full_matrices=False)
    projected = xp.matrix_transpose(u) @ target
    errors = []
    for penalty in penalties:
        shrink = s**2 / (s**2 + float(penalty))
        fit = u @ (shrink * projected)
        leverage = xp.sum(u**2 * shrink, axis=1)
        residual = (target - fit) / (1 - leverage)
        errors.append(float(xp.sqrt(xp.mean(residual**2))))
    return np.array(errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--features", type=int, default=100, help="random features")
    parser.add_argument("--output", default="arrays_ridge.png")
    arguments = parser.parse_args()

    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import RidgeCV

    data, target = load_diabetes(return_X_y=True)
    target = target - target.mean()
    rng = np.random.default_rng(0)
    directions = 10 * rng.standard_normal((data.shape[1], arguments.features))
    phases = rng.uniform(0, 2 * np.pi, arguments.features)
    penalties = np.logspace(-3, 3, 25)
    with mpicluster.Cluster(n=arguments.n) as rc:
        xp = rc.xp
        features = xp.cos(xp.asarray(data) @ xp.asarray(directions) + xp.asarray(phases))
        errors = leave_one_out(xp, features, xp.asarray(target), penalties)
    best = penalties[errors.argmin()]
    ridge = RidgeCV(alphas=penalties, fit_intercept=False).fit(np.cos(data @ directions + phases), target)
    print(f"{data.shape[0]} patients, {arguments.features} features, {penalties.size} penalties on {arguments.n} engines")
    print(f"best penalty: {best:.3g}, scikit-learn's: {ridge.alpha_:.3g}; leave-one-out error {errors.min():.2f}")
    if not np.isclose(best, ridge.alpha_):
        raise SystemExit("the penalties differ")

    figure, axes = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    axes.semilogx(penalties, errors, marker="o", markersize=4, color="#4c72b0")
    axes.axvline(best, color="#aa2222", linestyle=":", label=f"best: {best:.3g}")
    axes.set(xlabel="penalty", ylabel="leave-one-out error", title="ridge regression of disease progression")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(arguments.output, dpi=120)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
