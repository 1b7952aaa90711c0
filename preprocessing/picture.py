"""A picture of the mean shower: energy by layer, and energy per area across the axis, cells as they are."""

from __future__ import annotations

from functools import singledispatch
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, CylindricalGeometry, Geometry
from caloforge.outputs import result_file

FloatArray = NDArray[np.float64]

_DECADES = 5
"""Of the colours; what is less is as the least of them."""

_ARC = 0.1
"""Rad; longest straight piece of a ring."""


def write_picture(mean: FloatArray, geometry: Geometry, path: Path, *, title: str) -> None:
    """Write a PNG.

    Args:
        mean: (V,) mean energy of each voxel, MeV.
        geometry: whose voxels they are.
        path: the file.
        title: above the picture.

    Raises:
        InputError: the file may not be written, or is called otherwise.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a picture is written as PNG; call it {path.with_suffix('.png').name}")
    by_layer = np.bincount(geometry.layer_of_voxel, weights=mean).astype(np.float64)
    several = geometry.n_layers > 1
    figure = Figure(figsize=(9.5 if several else 5.2, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)  # names of files, dollars too
    *left, right = figure.subplots(1, 1 + several, squeeze=False)[0]
    for axes in left:
        axes.stairs(by_layer, np.arange(len(by_layer) + 1) - 0.5, color="#0072B2", fill=True, alpha=0.3)
        axes.stairs(by_layer, np.arange(len(by_layer) + 1) - 0.5, color="#0072B2")
        depths = geometry.layer_depths
        where = "" if depths is None else f" (the first at {depths[0]:g} mm, the last at {depths[-1]:g} mm)"
        axes.set(xlabel=f"layer{where}", ylabel="mean energy (MeV)", xlim=(-0.5, len(by_layer) - 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
    polygons, density, what = _across(mean, geometry, by_layer)
    most = float(density.max(initial=0)) or 1.0
    cells = PolyCollection(polygons, norm=LogNorm(most / 10**_DECADES, most), cmap="viridis", linewidths=0.1)
    cells.set_edgecolor("face" if len(polygons) > 500 else "white")
    cells.set_array(np.maximum(density, most / 10**_DECADES))
    right.add_collection(cells)
    right.autoscale_view()
    right.set(xlabel="x (mm)", ylabel="y (mm)", aspect="equal", title=what)
    right.title.set_fontsize(9)
    figure.colorbar(cells, ax=right, label="mean energy per area (MeV/mm²)")
    with result_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)


def _across(mean: FloatArray, geometry: Geometry, by_layer: FloatArray) -> tuple[list[FloatArray], FloatArray, str]:
    """Return voxels across the axis as polygons, their energy per area in MeV/mm^2, and which ones they are."""
    layers = [_polygons(geometry, layer) for layer in range(geometry.n_layers)]
    area = geometry.area_of_voxel
    alike = len(set(geometry.layer_sizes)) == 1 and all(_same(one, layers[0]) for one in layers[1:])
    if alike:
        summed = (mean / area).reshape(geometry.n_layers, -1).sum(0)
        return layers[0], summed, "all layers" if geometry.n_layers > 1 else ""
    layer = int(np.argmax(by_layer))
    place = geometry.layer_slices[layer]
    return layers[layer], mean[place] / area[place], f"layer {layer}, the one with the most energy"


def _same(one: list[FloatArray], other: list[FloatArray]) -> bool:
    return all(a.shape == b.shape and np.allclose(a, b) for a, b in zip(one, other, strict=True))


@singledispatch
def _polygons(geometry: Geometry, layer: int) -> list[FloatArray]:
    """Return the corners (C, 2) in mm of each voxel of a layer."""
    raise InputError(f"geometry {geometry}: there is no picture of its kind")


@_polygons.register
def _of_cells(geometry: CellGeometry, layer: int) -> list[FloatArray]:
    place = geometry.layer_slices[layer]
    middle = np.stack([geometry.eta_of_voxel[place], geometry.phi_of_voxel[place]], 1)[:, None]
    size = np.stack([geometry.width_of_voxel[place], geometry.height_of_voxel[place]], 1)[:, None]
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    return list(middle + corners * size)


@_polygons.register
def _of_rings(geometry: CylindricalGeometry, layer: int) -> list[FloatArray]:
    one = geometry.active_layers[layer]
    sectors = np.linspace(-np.pi, np.pi, one.n_alpha + 1)
    found = []
    for low, high in pairwise(sectors):
        arc = np.linspace(low, high, 1 + int(np.ceil((high - low) / _ARC)))
        round_ = np.stack([np.cos(arc), np.sin(arc)], 1)
        found += [np.concatenate([inner * round_, outer * round_[::-1]]) for inner, outer in pairwise(one.r_edges)]
    return found
