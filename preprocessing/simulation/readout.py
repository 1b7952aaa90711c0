"""Which voxel a deposit belongs to."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from caloforge.config import Config
from caloforge.geometry import CylindricalGeometry, Layer

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
