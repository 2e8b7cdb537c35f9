"""Sharpening a blurred, noisy photograph by conjugate gradients on the engines: `python examples/arrays_deblur.py`.

The blur is a matrix on the columns of the picture times one on its rows, so nobody forms the matrix of all pixels. Tikhonov's problem,
(B^T B + penalty) x = B^T y, is solved by CG with an operator: each step is a few products of divided matrices.
The photograph is scikit-learn's bundled picture of a flower.
"""

from __future__ import annotations

import argparse

import matplotlib as mpl
import numpy as np

import mpicluster

mpl.use("Agg")
import matplotlib.pyplot as plt


def blur_matrix(n, width):
    """Rows sum to one; each is a bell curve of this width, in pixels."""
    i = np.arange(n)
    bell = np.exp(-0.5 * ((i[:, np.newaxis] - i) / width) ** 2)
    return bell / bell.sum(axis=1, keepdims=True)


def sharpened(picture, width, penalty, steps):
    """On every engine: the picture that, blurred, is nearest to this one, less a penalty; and the residual after each step."""
    import mpicluster.array as xp

    height, breadth = picture.shape
    left, right = xp.asarray(blur_matrix(height, width)), xp.asarray(blur_matrix(breadth, width))
    data = xp.asarray(picture)
    start = (left.T @ data @ right).local  # B^T y

    def normal(flat):
        """B^T B x + penalty x, of pixels in one line."""
        x = xp.reshape(flat, (height, breadth))
        return xp.reshape(left.T @ (left @ x @ right.T) @ right + penalty * x, (-1,))

    b = xp.reshape(xp.from_local(start), (-1,))
    history = []

    def note(x):
        history.append(float(xp.linalg.vector_norm(b - normal(x)) / xp.linalg.vector_norm(b)))

    n = height * breadth
    operator = xp.linalg.LinearOperator((n, n), normal, dtype=xp.float64)
    solution, _ = xp.linalg.cg(operator, b, rtol=1e-6, maxiter=steps, callback=note)
    return xp.reshape(solution, (height, breadth)).gather(0), history  # the whole picture on rank 0, None elsewhere


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=4, help="engines")
    parser.add_argument("--width", type=float, default=2.5, help="of the blur, in pixels")
    parser.add_argument("--penalty", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=60, help="at most")
    parser.add_argument("--output", default="arrays_deblur.png")
    arguments = parser.parse_args()

    from sklearn.datasets import load_sample_image

    original = load_sample_image("flower.jpg").mean(axis=2)[::2, ::2] / 255.0
    height, breadth = original.shape
    blurred = blur_matrix(height, arguments.width) @ original @ blur_matrix(breadth, arguments.width).T
    blurred += 0.005 * np.random.default_rng(0).standard_normal(blurred.shape)
    with mpicluster.Cluster(n=arguments.n) as rc:
        rc[:].execute("import numpy as np", block=True)
        results = rc[:].spmd_sync(sharpened, blurred, arguments.width, arguments.penalty, arguments.steps)
    restored, history = results[0]
    before, after = (float(np.sqrt(np.mean((p - original) ** 2))) for p in (blurred, restored))
    print(f"{height} x {breadth} pixels on {arguments.n} engines, {len(history)} steps, residual {history[-1]:.1e}")
    print(f"distance from the original: {before:.4f} blurred, {after:.4f} sharpened")
    if after >= before:
        raise SystemExit("it is no sharper")

    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
    for ax, field, title in zip(axes, (original, blurred, restored), ("original", "blurred, with noise", "sharpened"), strict=False):
        ax.imshow(field, cmap="gray", vmin=0, vmax=1)
        ax.set(title=title, xticks=[], yticks=[])
    axes[3].semilogy(np.arange(1, len(history) + 1), history, color="#4c72b0")
    axes[3].set(title="residual of CG", xlabel="step")
    axes[3].grid(alpha=0.3)
    figure.savefig(arguments.output, dpi=120)
    print(f"plot: {arguments.output}")


if __name__ == "__main__":
    main()
