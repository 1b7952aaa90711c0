"""Draw the tree of one layer and the waves of a shower: docs/tree.svg."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Wedge

from caloforge.geometry import load_geometry
from caloforge.models.tree.ring_layout import RingLayout

LEVELS = ("a layer", "its rings", "halves of ring 2", "and of those", "and of those", "cells")


def main(output: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "tree"
    figure, axes = plt.subplots(1, 7, figsize=(13, 2.6), width_ratios=[1] * 6 + [2.4], layout="constrained")
    for step, (axis, title) in enumerate(zip(axes, LEVELS, strict=False)):
        _draw_layer(axis, step)
        axis.set_title(title, fontsize=9)
    _draw_waves(axes[-1])
    figure.savefig(output, metadata={"Date": None})


def _draw_layer(axis: plt.Axes, step: int) -> None:
    n_rings, chosen = 5, 2
    for ring in range(n_rings):
        if step == 0:
            continue
        pieces = 2 ** (step - 1) if ring == chosen else 1
        for k in range(pieces):
            shade = f"C{k % 2}" if ring == chosen else "0.85"
            angles = (0, 360) if pieces == 1 else (180 + 360 * k / pieces, 180 + 360 * (k + 1) / pieces)
            axis.add_patch(Wedge((0, 0), ring + 1, *angles, width=1, facecolor=shade, edgecolor="white", lw=0.8))
    if step == 0:
        axis.add_patch(Wedge((0, 0), n_rings, 0, 360, facecolor="0.85", edgecolor="white"))
    axis.set(xlim=(-5.1, 5.1), ylim=(-5.1, 5.1), aspect="equal")
    axis.set_axis_off()


def _draw_waves(axis: plt.Axes) -> None:
    """Colour shows when rings of the demo mesh are halved first."""
    layout = RingLayout(load_geometry("siw_demo"))
    layers, rings = layout.geometry.n_layers, layout.geometry.active_layers[0].n_r
    first = np.zeros((rings, layers))
    for node, wave in zip(layout.fine.node, layout.fine.wave, strict=True):
        box = layout.boxes[node]
        if box.level == 0:
            first[box.ring, box.layer] = wave
    image = axis.imshow(first, origin="lower", aspect="auto", cmap="viridis")
    axis.set(xlabel="layer", ylabel="ring", title="wave in which a ring is first halved")
    axis.title.set_fontsize(9)
    axis.figure.colorbar(image)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
