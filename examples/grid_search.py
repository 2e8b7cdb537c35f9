"""Parallel grid search over one hyperparameter, with scikit-learn: `python examples/grid_search.py`.

The data are sent to the engines once, by one MPI Bcast; then each alpha is a task. The tutorial uses the 20 newsgroups, which
must be downloaded; this uses scikit-learn's bundled digits.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def score(model_of, alpha):
    """Cross-validated accuracies of a model; runs on an engine, where `data` and `target` were pushed."""
    from sklearn.model_selection import cross_val_score

    return cross_val_score(model_of(alpha), data, target, cv=5)  # noqa: F821


def naive_bayes(alpha):
    from sklearn.naive_bayes import MultinomialNB

    return MultinomialNB(alpha=alpha)


def elastic_net(alpha):
    from sklearn.linear_model import SGDClassifier

    return SGDClassifier(alpha=alpha, penalty="elasticnet", max_iter=50, tol=None, random_state=0)


def grid_search(rc, model_of, alphas):
    """Mean accuracy and its standard error for each alpha, in parallel."""
    view = rc.load_balanced_view()
    scores = np.array(view.map_sync(score, [model_of] * len(alphas), alphas))
    return scores.mean(axis=1), scores.std(axis=1) / np.sqrt(scores.shape[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--alphas", type=int, default=13, help="points of the grid")
    parser.add_argument("--output", default="grid_search.png")
    arguments = parser.parse_args()

    from sklearn.datasets import load_digits

    digits = load_digits()
    models = {"MultinomialNB": naive_bayes, "SGDClassifier, elastic net": elastic_net}
    alphas = np.logspace(-6, 2, arguments.alphas)
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    with mpicluster.Cluster(n=arguments.n) as rc:
        rc[:].push({"data": digits.data, "target": digits.target}, block=True)
        for name, model_of in models.items():
            mean, error = grid_search(rc, model_of, alphas)
            best = int(mean.argmax())
            print(f"\n{name}\n{'alpha':>10}  accuracy")
            for alpha, m, e in zip(alphas, mean, error, strict=True):
                print(f"{alpha:10.2e}  {m:.4f} +- {e:.4f}{'  best' if alpha == alphas[best] else ''}")
            (line,) = axes.plot(alphas, mean, "o-", label=f"{name} (best: alpha = {alphas[best]:.1e}, {mean[best]:.1%})")
            axes.fill_between(alphas, mean - error, mean + error, alpha=0.2, color=line.get_color())
            axes.plot(alphas[best], mean[best], "*", markersize=14, color=line.get_color())
    axes.set(xscale="log", xlabel="alpha", ylabel="accuracy (5-fold cross-validation)", title="Digits: accuracy against alpha")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(arguments.output, dpi=120)
    print(f"\nplot: {arguments.output}")


if __name__ == "__main__":
    main()
