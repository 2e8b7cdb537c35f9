"""Draws ``layouts.svg``: a matrix in each layout, by what `mpicluster.array.layout` says. ``python docs/figures/layouts.py``."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from mpicluster.array.layout import Block, BlockCyclic, BlockCyclic2D, Layout, Replicated

SHAPE, RANKS = (12, 12), 4
COLOURS = ["#4c72b0", "#dd8452", "#55a868", "#8172b3"]
LAYOUTS: dict[str, Layout] = {
    "Replicated()": Replicated(),
    "Block(0)": Block(0),
    "Block(1)": Block(1),
    "Block(0, sizes=(6, 0, 2, 4))": Block(0, (6, 0, 2, 4)),
    "BlockCyclic(0, nb=2)": BlockCyclic(0, 2),
    "BlockCyclic2D(grid=(2, 2),\nblock=(2, 3))": BlockCyclic2D((2, 2), (2, 3)),
}


def draw(axes: plt.Axes, title: str, layout: Layout) -> None:
    """One matrix, each rank's part in its colour."""
    axes.set_title(title, family="monospace", fontsize=9)
    axes.set(xlim=(0, SHAPE[1]), ylim=(SHAPE[0], 0), aspect="equal", xticks=[], yticks=[])
    if isinstance(layout, Replicated):
        for rank in reversed(range(RANKS)):
            shift = 0.8 * rank
            axes.add_patch(
                Rectangle((shift, shift), SHAPE[1] - 2.4, SHAPE[0] - 2.4, facecolor=COLOURS[rank], edgecolor="white", linewidth=1.5)
            )
        axes.text(4.8, 5.2, "all of it\non each", color="white", ha="center", va="center", fontsize=9)
        return
    for rank in range(RANKS):
        rows, columns = layout.runs(SHAPE, RANKS, rank)
        for top, bottom in rows:
            for left, right in columns:
                cell = Rectangle((left, top), right - left, bottom - top, facecolor=COLOURS[rank], edgecolor="white", linewidth=1.5)
                axes.add_patch(cell)
                axes.text((left + right) / 2, (top + bottom) / 2, str(rank), color="white", ha="center", va="center", fontsize=9)


def main() -> None:
    """Draw them all."""
    plt.rcParams["svg.hashsalt"] = "layouts"  # the same file each time
    figure, grid = plt.subplots(2, 3, figsize=(7.2, 5.2), layout="constrained")
    for axes, (title, layout) in zip(grid.flat, LAYOUTS.items(), strict=True):
        draw(axes, title, layout)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
