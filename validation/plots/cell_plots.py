"""Plots of cells as they are: rectangles with their sizes, not resampled."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from caloforge.geometry import CellGeometry
from caloforge.validation.plots.map_plots import Extend, colour_bar
from caloforge.validation.plots.panels import Samples
from caloforge.validation.plots.style import REFERENCE, escaped

FloatArray = NDArray[np.float64]

MOST_LAYERS = 4
"""Of those that the mean shower is drawn of; of more layers, so many at equal distances."""


def draw_cells(
    axes: Axes, geometry: CellGeometry, layer: int, values: FloatArray, scale: Normalize, colour_map: str
) -> PatchCollection:
    """Draw the cells of a layer in the colours of their values (cells,); those that are NaN stay empty."""
    place = geometry.layer_slices[layer]
    x, y = geometry.eta_of_voxel[place], geometry.phi_of_voxel[place]
    width, height = geometry.width_of_voxel[place], geometry.height_of_voxel[place]
    corners = zip(x - width / 2, y - height / 2, width, height, strict=True)
    colours = colormaps[colour_map].with_extremes(bad="white" if colour_map == "Greys" else "#e8e8e8")
    cells = PatchCollection(
        [Rectangle((a, b), w, h) for a, b, w, h in corners], norm=scale, cmap=colours, linewidth=0.25,
        edgecolor="#8a8a8a",
    )  # fmt: skip
    cells.set_array(np.ma.masked_invalid(values))
    axes.add_collection(cells)
    axes.set_xlim(*_limits(x, width))
    axes.set_ylim(*_limits(y, height))
    axes.set_aspect("equal")
    return cells


def _limits(middle: FloatArray, size: FloatArray) -> tuple[float, float]:
    low, high = float((middle - size / 2).min()), float((middle + size / 2).max())
    margin = 0.02 * (high - low)
    return low - margin, high + margin


def cell_maps(samples: Samples) -> Figure:
    """Draw the mean energy per area of the cells, and each generator's ratio to the reference.

    Beside the reference stands its statistical error, which says what ratios mean something. Of several layers some
    are drawn.
    """
    geometry = samples.reference.geometry
    assert isinstance(geometry, CellGeometry)
    assert samples.reference.cell_energy is not None
    truth, error = samples.reference.cell_energy
    highest = max(float(truth.max()), 1e-300)
    scale = LogNorm(max(float(truth[truth > 0].min(initial=highest)), highest * 1e-6), highest * 1.0001)
    n = geometry.n_layers
    layers = np.unique(np.linspace(0, n - 1, min(n, MOST_LAYERS)).round().astype(int)).tolist()
    rows = [(layer, name) for layer in layers for name in (REFERENCE, *samples.generated)]
    height = 0.55 + 3.3 * len(rows)  # inches
    figure = Figure(figsize=(9.4, height))
    grid = figure.subplots(len(rows), 2, squeeze=False)
    figure.subplots_adjust(left=0.085, right=0.9, wspace=0.42, hspace=0.09, bottom=0.47 / height, top=1 - 0.08 / height)
    for row, (layer, name) in enumerate(rows):
        place = geometry.layer_slices[layer]
        mean = truth if name == REFERENCE else _mean_cells(samples, name)
        first = name == REFERENCE
        with np.errstate(all="ignore"):
            second = 100 * error / truth if first else mean / truth
        label, colour_map, limits = (
            ("Statistical error [%]", "Greys", (0.0, 20.0))
            if first
            else (f"Ratio to {REFERENCE}", "RdBu_r", (0.5, 1.5))
        )
        left, right = grid[row]
        shown = np.where(mean[place] > 0, mean[place], np.nan)
        maps = (
            draw_cells(left, geometry, layer, shown, scale, "viridis"),
            draw_cells(right, geometry, layer, second[place], Normalize(*limits), colour_map),
        )
        ends: tuple[Extend, Extend] = ("min", "max" if first else "both")
        for axes, cells, text, extend in zip((left, right), maps, ("MeV/mm²", label), ends, strict=True):
            axes.tick_params(labelbottom=row == len(rows) - 1)
            axes.apply_aspect()  # the colour bar stands beside the square that is left of the frame
            colour_bar(figure, axes, cells, text, width=0.014, gap=0.008, extend=extend)
        left.set_ylabel("$y$ [mm]")
        where = f"{escaped(name)}, layer {layer}" if n > 1 else escaped(name)
        left.text(
            0.975, 0.955, where, transform=left.transAxes, ha="right", va="top", weight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 2},
        )  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("$x$ [mm]", loc="right")
    return figure


def _mean_cells(samples: Samples, name: str) -> FloatArray:
    found = samples.generated[name].cell_energy
    assert found is not None
    mean: FloatArray = found[0]
    return mean
