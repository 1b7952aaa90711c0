"""Which voxel a deposit belongs to."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, CylindricalGeometry, Layer, load_geometry
from caloforge.geometry.base import MOST_VOXELS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Mesh(Config):
    """Cylinders around the path of the particle, as in Geant4's example Par04: layers along it, rings and sectors.

    Attributes:
        geometry: name of the mesh, by which the showers are recognised.
        layers: number of layers.
        layer_mm: length of each, along the path.
        n_alpha: sectors.
        rings: number of rings.
        ring_mm: width of each.
    """

    geometry: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", max_length=100)
    layers: int = Field(ge=1, le=10_000)
    layer_mm: Annotated[float, Field(gt=0, le=1e6)]
    n_alpha: int = Field(ge=1, le=10_000)
    rings: int = Field(ge=1, le=10_000)
    ring_mm: Annotated[float, Field(gt=0, le=1e6)]

    @model_validator(mode="after")
    def _of_a_shower(self) -> Self:
        if self.n_voxels > MOST_VOXELS:
            text = f"{self.n_voxels} voxels (layers x n_alpha x rings); a shower has {MOST_VOXELS} at most"
            raise PydanticCustomError("voxels", "{text}", {"text": text})
        return self

    @property
    def depth_mm(self) -> float:
        """From the entry to the end."""
        return self.layers * self.layer_mm

    @property
    def radius_mm(self) -> float:
        """Of the outermost ring."""
        return self.rings * self.ring_mm

    @property
    def n_voxels(self) -> int:
        """Of a shower."""
        return self.layers * self.n_alpha * self.rings

    def showers_geometry(self, *, particle: str = "", pid: int = 0) -> CylindricalGeometry:
        """Return the geometry of the showers; ``particle`` and ``pid`` are noted in it."""
        edges = tuple(round(ring * self.ring_mm, 9) for ring in range(self.rings + 1))
        layers = tuple(Layer(number, edges, self.n_alpha) for number in range(self.layers))
        return CylindricalGeometry(self.geometry, layers, particle=particle, pid=pid)

    def voxels(self, points: FloatArray, entry: FloatArray, axes: FloatArray) -> IntArray:
        """Return the voxel of each point; -1 outside of the mesh.

        Args:
            points: (n, 3) in mm, in the frame of the detector.
            entry: (3,) where the particle enters.
            axes: (3, 3) see :func:`shower_axes`.
        """
        x, y, z = axes @ (points - entry).T
        layer = np.floor(z / self.layer_mm).astype(np.int64)
        ring = np.floor(np.hypot(x, y) / self.ring_mm).astype(np.int64)
        turn = (np.arctan2(y, x) + math.pi) / (2 * math.pi)
        sector = np.minimum((turn * self.n_alpha).astype(np.int64), self.n_alpha - 1)
        inside = (layer >= 0) & (layer < self.layers) & (ring < self.rings)
        return np.where(inside, (layer * self.n_alpha + sector) * self.rings + ring, -1)


class Cells(Config):
    """Cells of the detector itself, wherever the particle goes.

    Attributes:
        geometry: their geometry, by name or as a table of cells (CSV), see :class:`caloforge.geometry.CellGeometry`.
        layer_mm: length of each layer along the beam axis; None: the cells are of one layer, from front to back.
    """

    geometry: str
    layer_mm: Annotated[float, Field(gt=0, le=1e6)] | None = None

    @model_validator(mode="after")
    def _are_cells(self) -> Self:
        try:
            cells = self._cells
        except InputError as error:
            raise PydanticCustomError("geometry", "{text}", {"text": str(error)}) from None
        if cells.n_layers > 1 and self.layer_mm is None:
            text = f"geometry {cells.name} has {cells.n_layers} layers; say how long each is with layer_mm"
            raise PydanticCustomError("layers", "{text}", {"text": text})
        return self

    @cached_property
    def _cells(self) -> CellGeometry:
        found = load_geometry(self.geometry)
        if not isinstance(found, CellGeometry):
            raise InputError(f"geometry {self.geometry} has no cells; rings and sectors are a mesh")
        return found

    @property
    def radius_mm(self) -> float:
        """From the middle of the front to the outermost edge of a cell, along x or y."""
        cells = self._cells
        return float(
            max(
                (abs(cells.eta_of_voxel) + cells.width_of_voxel / 2).max(),
                (abs(cells.phi_of_voxel) + cells.height_of_voxel / 2).max(),
            )
        )

    @property
    def n_voxels(self) -> int:
        """Of a shower."""
        return self._cells.n_voxels

    def showers_geometry(self, *, particle: str = "", pid: int = 0) -> CellGeometry:
        """Return the geometry of the showers, in which no particle is noted."""
        return self._cells

    def voxels(self, points: FloatArray, entry: FloatArray, axes: FloatArray) -> IntArray:
        """Return the cell of each point; -1 outside of all cells. What the particle does is of no importance.

        Args:
            points: (n, 3) in mm, in the frame of the detector.
            entry: where the particle enters.
            axes: of its shower.
        """
        cells = self._cells
        layer = np.zeros(len(points)) if self.layer_mm is None else np.floor(points[:, 2] / self.layer_mm)
        # Deposits of the same fibre have the same place.
        places, which = np.unique(np.column_stack([points[:, :2], layer]), axis=0, return_inverse=True)
        found = np.full(len(places), -1, dtype=np.int64)
        for start in range(0, len(places), _PLACES):
            x, y, z = places[start : start + _PLACES].T[..., None]
            inside = (abs(x - cells.eta_of_voxel) <= cells.width_of_voxel / 2) & (z == cells.layer_of_voxel)
            inside &= abs(y - cells.phi_of_voxel) <= cells.height_of_voxel / 2
            found[start : start + _PLACES] = np.where(inside.any(axis=1), inside.argmax(axis=1), -1)
        return found[which.ravel()]


_PLACES = 4096
"""So many at a time: memory is this times the number of cells."""


def direction(theta: float, phi: float) -> tuple[float, float, float]:
    """Return the unit vector of a polar angle and an azimuth in rad."""
    return (math.sin(theta) * math.cos(phi), math.sin(theta) * math.sin(phi), math.cos(theta))


def shower_axes(theta: float, phi: float) -> FloatArray:
    """Return x, y and z of the frame of a shower as rows, (3, 3).

    z is the direction of the particle, x lies in the plane of particle and beam and points towards larger z of the
    detector, y completes a right-handed frame.
    """
    z = np.array(direction(theta, phi))
    x = np.array([-math.cos(theta) * math.cos(phi), -math.cos(theta) * math.sin(phi), math.sin(theta)])
    return np.stack([x, np.cross(z, x), z])
