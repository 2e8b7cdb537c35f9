"""Random search that reports the best so far and stops when you interrupt it: `python examples/random_search.py`.

Hyperparameters are drawn at random and tried on a load-balanced view. Press Ctrl-C when the model is good enough.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import mpicluster


def trial(alpha, l1_ratio):
    """Cross-validated accuracy; runs on an engine, where `data` and `target` were pushed."""
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import cross_val_score

    model = SGDClassifier(alpha=alpha, l1_ratio=l1_ratio, penalty="elasticnet", max_iter=30, tol=None, random_state=0)
    return alpha, l1_ratio, cross_val_score(model, data, target, cv=3).mean()  # noqa: F821


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--seconds", type=float, default=60, help="stop after so long")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between reports")
    arguments = parser.parse_args()

    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(0)
    draws = iter(lambda: (10 ** rng.uniform(-6, 2), rng.uniform()), None)  # without end
    best, tried = (0.0, 0.0, 0.0), 0
    with mpicluster.Cluster(n=arguments.n) as rc:
        rc[:].push({"data": digits.data, "target": digits.target}, block=True)
        start = last = time.monotonic()
        results = rc.load_balanced_view().imap(lambda draw: trial(*draw), draws, ordered=False)
        try:
            for alpha, l1_ratio, accuracy in results:
                tried += 1
                best = max(best, (accuracy, alpha, l1_ratio))
                now = time.monotonic()
                if now - last > arguments.every:
                    last = now
                    print(f"{tried:5d} tried, best so far {best[0]:.4f}  (alpha {best[1]:.2e}, l1_ratio {best[2]:.2f})", flush=True)
                if now - start > arguments.seconds:
                    break
        except KeyboardInterrupt:
            print("interrupted")
        results.close()  # takes back what has not begun
    print(f"best of {tried}: accuracy {best[0]:.4f} with alpha {best[1]:.3e}, l1_ratio {best[2]:.3f}")


if __name__ == "__main__":
    main()
