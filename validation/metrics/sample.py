"""Two views of the showers of a sample: the file and its summary, and what metrics make of both."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import CylindricalGeometry
from caloforge.showers import Showers, VoxelArray
from caloforge.validation.metrics.channels import checkerboard_channels
from caloforge.validation.metrics.voxel_features import voxel_features
from caloforge.validation.observables.features import condition_features, high_level_features
from caloforge.validation.observables.summary import Summary

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Showers and their summary, made with a threshold that the voxels in the file have not seen."""

    showers: Showers
    summary: Summary

    @cached_property
    def features(self) -> FloatArray:
        """The high-level features of CaloChallenge, (N, d)."""
        return high_level_features(self.summary)

    @property
    def channels(self) -> FloatArray:
        """Energies of the layers; of a mesh of rings in one layer those of a checkerboard over its voxels, (N, channels) MeV."""
        geometry = self.summary.geometry
        if not isinstance(geometry, CylindricalGeometry) or geometry.n_layers > 1:
            return self.summary.layer_energy
        layer = geometry.active_layers[0]
        if min(layer.n_alpha, layer.n_r) < 2:
            return self.summary.layer_energy
        shape = (layer.n_alpha, layer.n_r)
        chunks = self.showers.chunks(threshold=self.summary.threshold)
        return np.concatenate([checkerboard_channels(chunk.reshape(-1, *shape)) for chunk in chunks])

    @cached_property
    def voxel_features(self) -> NDArray[np.float32]:
        """log10 E_inc, what the trees see of the voxels and the other conditions, (N, d): far fewer numbers than voxels."""
        chunks = self.showers.chunks(threshold=self.summary.threshold)
        energy = np.log10(self.summary.incident_energy[:, None]).astype(np.float32)
        others = condition_features(self.summary).astype(np.float32)
        return np.hstack([energy, voxel_features(chunks, self.summary.geometry), others])

    def voxels(self, rows: NDArray[np.int64] | None = None) -> VoxelArray:
        """Read some of the showers, or all, with the threshold applied: (n, V) float32 MeV."""
        return (self.showers if rows is None else self.showers.select(rows)).read(threshold=self.summary.threshold)


def some_rows(n: int, most: int, *, seed: int) -> NDArray[np.int64]:
    """Return the rising numbers of at most ``most`` of n showers, chosen at random.

    The same of both samples are to be taken, as rows may have the same incident energies in both.
    """
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])
