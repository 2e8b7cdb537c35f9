"""A job from end to end: a grid search whose tasks are farmed out, then a singular value decomposition that all engines make together.

The same script runs in a batch job, which one command submits,

    mpicluster submit slurm -n 8 --nodes 2 --time 0:10:00 --wait -- search_and_svd.py --out results

by ``mpicluster run -n 4 search_and_svd.py`` on this machine, and in a notebook beside a cluster that runs. It saves what it has when the
time of the job is nearly over.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

import mpicluster

WIDTHS = np.logspace(-2, 1, 12)
STRENGTHS = np.logspace(-6, 1, 12)


def error_of(width, strength, fold):
    """Kernel ridge regression of the ``data`` on this engine without one fifth of them, and its error on that fifth."""
    import numpy as np

    x, y = data  # noqa: F821 - pushed to the engines
    test = np.arange(len(x)) % 5 == fold

    def kernel(a, b):
        return np.exp(-((a[:, None] - b[None, :]) ** 2) / (2 * width**2))

    train_x, train_y = x[~test], y[~test]
    weights = np.linalg.solve(kernel(train_x, train_x) + strength * np.eye(len(train_x)), train_y)
    return float(np.mean((kernel(x[test], train_x) @ weights - y[test]) ** 2))


def search(rc):
    """The best width and strength. What is done is kept if the time is over."""
    rng = np.random.default_rng(7)
    x = np.sort(rng.uniform(-3, 3, 400))
    y = np.sin(2 * x) + 0.1 * rng.standard_normal(len(x))
    rc[:].push({"data": (x, y)}, block=True)
    grid = [(w, s) for w in WIDTHS for s in STRENGTHS]
    jobs = [(w, s, fold) for w, s in grid for fold in range(5)]
    result = rc.load_balanced_view().map_async(error_of, *zip(*jobs, strict=True), chunksize=8)
    done, errors = 0, np.full(len(jobs), np.nan)
    try:
        for i, error in enumerate(result):
            errors[i], done = error, i + 1
            if done % 240 == 0:
                print(f"{done} of {len(jobs)} fits", flush=True)
    except KeyboardInterrupt:
        print(f"The time is nearly over: {done} of {len(jobs)} fits are kept.", flush=True)
        result.abort()
    means = errors.reshape(len(grid), 5).mean(axis=1)
    best = int(np.nanargmin(means))
    return {"width": grid[best][0], "strength": grid[best][1], "error": float(means[best]), "fits": done}


def decompose(rc, rows, columns, rank):
    """Singular values of a matrix of low rank with noise, which is made on the engines and never leaves them."""
    xp, linalg = rc.xp, rc.xp.linalg
    rng = xp.random.default_rng(11)
    matrix = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns)) + 0.01 * rng.standard_normal((rows, columns))
    u, s, vh = linalg.svd(matrix, full_matrices=False)
    values = np.asarray(s)
    residual = float(linalg.norm(matrix - (u * s) @ vh) / linalg.norm(matrix))
    return {"values": values[: rank + 2].tolist(), "rank": int((values > 0.01 * values[0]).sum()), "residual": residual}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for what is found")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--columns", type=int, default=100)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    rc = mpicluster.Client()
    hosts = sorted({info["host"] for info in rc.status()["engines"]})
    print(f"{len(rc)} engines on {', '.join(hosts)}", flush=True)
    begin = time.perf_counter()
    found = search(rc)
    print(
        f"Best: width {found['width']:.3g}, strength {found['strength']:.3g}, error {found['error']:.4f} "
        f"({found['fits']} fits in {time.perf_counter() - begin:.1f} s)",
        flush=True,
    )
    begin = time.perf_counter()
    parts = decompose(rc, args.rows, args.columns, rank=5)
    took = time.perf_counter() - begin
    print(f"SVD of {args.rows} x {args.columns}: rank {parts['rank']}, residual {parts['residual']:.1e} ({took:.1f} s)", flush=True)
    (args.out / "results.json").write_text(json.dumps({"engines": len(rc), "search": found, "svd": parts}, indent=1))
    print(f"Written to {args.out / 'results.json'}.")


if __name__ == "__main__":
    main()
