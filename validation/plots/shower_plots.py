"""Single showers as heat maps: from the side, or from the front where there is one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry
from caloforge.validation.observables.summary import common_r_edges
from caloforge.validation.plots.cell_plots import draw_cells
from caloforge.validation.plots.events import Event, front_parts, y_edges
from caloforge.validation.plots.panels import Samples
from caloforge.validation.plots.style import escaped

FloatArray = NDArray[np.float64]


def event_display(samples: Samples, showers: Mapping[str, Sequence[Event]]) -> Figure:
    """Draw single showers, a row for each sample and a column for each energy.

    Args:
        samples: for the mesh.
        showers: sample name to its showers, as many of each sample.
    """
    geometry = samples.reference.geometry
    flat, cells = geometry.n_layers == 1, isinstance(geometry, CellGeometry)
    x, y = _front_corners(geometry) if flat else _side_corners(geometry)
    n_rows, n_columns = len(showers), max(len(row) for row in showers.values())
    seen = [event.front if flat and cells else event.density for row in showers.values() for event in row]
    highest = max(float(view.max()) for view in seen) or 1.0
    cell_width, cell_height = (3.3, 3.1) if flat else (3.3, 1.65)  # inches
    width, height = 0.6 + n_columns * cell_width + 0.8, 0.5 + n_rows * cell_height + 0.1
    figure = Figure(figsize=(width, height))
    scale = LogNorm(highest * 1e-5, highest)
    for i, (name, row) in enumerate(showers.items()):
        for j, event in enumerate(row):
            axes = figure.add_axes(
                (
                    (0.6 + j * cell_width) / width, (0.5 + (n_rows - 1 - i) * cell_height) / height,
                    (cell_width - 0.12) / width, (cell_height - 0.12) / height,
                )
            )  # fmt: skip
            image: ScalarMappable
            if flat and isinstance(geometry, CellGeometry):
                shown = np.where(event.front > 0, event.front, np.nan)
                image = draw_cells(axes, geometry, 0, shown, scale, "viridis")
            else:
                view = event.front if flat else _padded(event.density, y).T
                values = np.ma.masked_less_equal(view, 0)
                image = axes.pcolormesh(x, y, values, norm=scale, cmap="viridis", rasterized=True)
            axes.text(
                0.98, 0.95, f"{escaped(name)}, {event.incident_energy / 1000:.3g} GeV", transform=axes.transAxes,
                ha="right", va="top", fontsize=8.5, weight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
            )  # fmt: skip
            axes.tick_params(labelbottom=i == n_rows - 1, labelleft=j == 0)
            if not flat:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if j == 0:
                axes.set_ylabel("$y$ [mm]" if flat or cells else "$r$ [mm]")
            if i == n_rows - 1 and j == n_columns - 1:
                axes.set_xlabel("$x$ [mm]" if flat else "Layer", loc="right")
    bar = figure.colorbar(
        image, cax=figure.add_axes((1 - 0.78 / width, 0.5 / height, 0.13 / width, 1 - 0.72 / height)), extend="min"
    )
    bar.set_label("MeV/mm" if cells and not flat else "MeV/mm²", fontsize=9)
    return figure


def _side_corners(geometry: Geometry) -> tuple[FloatArray, FloatArray]:
    """Return the edges of layers and of signed r, or of y of cells."""
    layers = np.arange(geometry.n_layers + 1, dtype=np.float64) - 0.5
    if isinstance(geometry, CellGeometry):
        return layers, y_edges(geometry)
    r_edges = common_r_edges(geometry)
    return layers, np.concatenate([-r_edges[:0:-1], [0.0], r_edges[1:]])


def _front_corners(geometry: Geometry) -> tuple[FloatArray, FloatArray]:
    """Return x and y of the voxels' corners in the only layer, (alphas + 1, rings + 1); rings are drawn round."""
    if not isinstance(geometry, CylindricalGeometry):
        return np.empty(0), np.empty(0)
    layer = geometry.active_layers[0]
    parts = front_parts(layer.n_alpha)
    alpha = np.linspace(-np.pi, np.pi, layer.n_alpha * parts + 1)[:, None]
    edges = np.asarray(layer.r_edges)
    return edges * np.cos(alpha), edges * np.sin(alpha)


def _padded(density: FloatArray, signed: FloatArray) -> FloatArray:
    """Insert an empty bin at the axis where the innermost ring is hollow."""
    missing = len(signed) - 1 - density.shape[1]
    middle = density.shape[1] // 2
    return np.insert(density, [middle] * missing, 0.0, axis=1)
