"""Plots of maps: correlations between layers, and the mean energy over layer and radius."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caloforge.validation.figures.physics import layer_correlation
from caloforge.validation.plots.panels import Samples
from caloforge.validation.plots.style import REFERENCE, escaped

Extend = Literal["neither", "min", "max", "both"]


def correlations(samples: Samples) -> Figure:
    """Draw the correlation matrices of the layer energies and each generator's difference from Geant4's."""
    truth = layer_correlation(samples.reference)
    matrices = {REFERENCE: truth} | {name: layer_correlation(s) for name, s in samples.generated.items()}
    n = len(matrices)
    size, gap, bar = 2.15, 0.12, 0.75  # inches
    left, bottom, between = 0.55, 0.5, 0.35
    width, height = left + n * (size + gap) + bar, bottom + 2 * size + between + 0.3
    figure = Figure(figsize=(width, height))

    def frame(column: int, row: int) -> Axes:
        low = bottom + (1 - row) * (size + between)
        place = (left + column * (size + gap), low)
        return figure.add_axes((place[0] / width, place[1] / height, size / width, size / height))

    largest = max(float(np.abs(matrix - truth).max()) for matrix in matrices.values())
    end = float(np.clip(np.ceil(largest * 20) / 20, 0.05, 1.0))
    for column, (name, matrix) in enumerate(matrices.items()):
        for row, (values, colour_map, high) in enumerate(((matrix, "RdBu_r", 1.0), (matrix - truth, "PuOr_r", end))):
            if row == 1 and column == 0:
                continue
            axes = frame(column, row)
            image = axes.imshow(values, cmap=colour_map, vmin=-high, vmax=high, origin="lower", interpolation="nearest")
            axes.set_title(f"{escaped(name)}{f' minus {REFERENCE}' if row else ''}", fontsize=9.5, weight="bold", pad=4)
            first = column == (1 if row else 0)
            axes.tick_params(which="both", labelleft=first, labelbottom=row == 1 or column == 0)
            for side in (axes.xaxis, axes.yaxis):
                side.set_major_locator(MaxNLocator(5, integer=True))
            if first:
                axes.set_ylabel("Layer", loc="top")
            if column == n - 1:
                label = "Difference" if row else "Correlation"
                colour_bar(figure, axes, image, label, width=0.12 / width, gap=0.08 / width)
            if column == n - 1 and row == 1:
                axes.set_xlabel("Layer", loc="right")
    return figure


def images(samples: Samples) -> Figure:
    """Draw the mean energy per area over layer and r, and each generator's ratio to the reference.

    Beside the reference stands its statistical error, which says what ratios mean something.
    """
    truth = samples.reference.image
    assert truth is not None, "of rings"
    with np.errstate(all="ignore"):
        maps = [(REFERENCE, truth.mean, 100 * truth.error / truth.mean)]
        for name, sample in samples.generated.items():
            assert sample.image is not None
            maps.append((name, sample.image.mean, sample.image.mean / truth.mean))
    highest = max(float(truth.mean.max()), 1e-300)
    lowest = float(truth.mean[truth.mean > 0].min(initial=highest))
    scale = LogNorm(max(lowest, highest * 1e-6), highest * 1.0001)
    layers = np.arange(samples.reference.geometry.n_layers + 1) - 0.5
    height = 0.55 + 1.9 * len(maps)  # inches
    figure = Figure(figsize=(11.2, height))
    grid = figure.subplots(len(maps), 2, squeeze=False)
    figure.subplots_adjust(
        left=0.055, right=0.925, wspace=0.28, hspace=0.1, bottom=0.47 / height, top=1 - 0.08 / height
    )  # fmt: skip
    for row, (name, mean, second) in enumerate(maps):
        left, right = grid[row]
        label, colour_map, limits = (
            (f"Ratio to {REFERENCE}", "RdBu_r", (0.5, 1.5)) if row else ("Statistical error [%]", "Greys", (0.0, 20.0))
        )
        image = left.pcolormesh(layers, truth.edges, np.ma.masked_less_equal(mean, 0).T, norm=scale, cmap="viridis")
        ratio = right.pcolormesh(
            layers, truth.edges, np.ma.masked_invalid(second).T, vmin=limits[0], vmax=limits[1], cmap=colour_map
        )
        sides: list[tuple[Axes, ScalarMappable, str, Extend]] = [
            (left, image, "MeV/mm²", "min"),
            (right, ratio, label, "both" if row else "max"),
        ]
        for axes, mesh, text, extend in sides:
            axes.tick_params(labelbottom=row == len(maps) - 1)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            colour_bar(figure, axes, mesh, text, width=0.011, gap=0.006, extend=extend)
        left.set_ylabel("$r$ [mm]")
        left.text(
            0.985, 0.93, escaped(name), transform=left.transAxes, ha="right", va="top", weight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 2},
        )  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("Layer", loc="right")
    return figure


def colour_bar(
    figure: Figure, axes: Axes, mesh: ScalarMappable, label: str, *, width: float, gap: float,
    extend: Extend = "neither",
) -> None:  # fmt: skip
    """Put a colour bar into the space right of the axes."""
    place = axes.get_position()
    bar = figure.colorbar(mesh, cax=figure.add_axes((place.x1 + gap, place.y0, width, place.height)), extend=extend)
    bar.set_label(label, fontsize=9)
    bar.ax.minorticks_off()
