"""What the classifiers of CaloChallenge see of a shower (Krause et al. 2024, arXiv:2410.21611)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat, device, float64, from_numpy

from caloforge.showers import VoxelArray, cut
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.summary import EPSILON, Summary

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Inputs(Protocol):
    """The inputs of N showers, made in double precision only for the rows that are asked for."""

    def __len__(self) -> int:
        """Return the number of showers."""
        ...

    @property
    def width(self) -> int:
        """Numbers per shower."""
        ...

    def rows(self, rows: IntArray, place: device) -> Tensor:
        """Return the inputs of some showers, (n, width) float64, on a device."""
        ...


@dataclass(frozen=True)
class Columns:
    """(N, width) numbers as they are."""

    values: FloatArray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Numbers per shower."""
        return int(self.values.shape[1])

    def rows(self, rows: IntArray, place: device) -> Tensor:
        """Return the numbers of some showers."""
        return from_numpy(self.values[rows]).to(place)


@dataclass(frozen=True)
class _Voxels:
    """Showers by voxel.

    Attributes:
        summary: of the showers.
        voxels: (N, V) MeV as in the file.
    """

    summary: Summary
    voxels: VoxelArray

    def __len__(self) -> int:
        return len(self.voxels)


@dataclass(frozen=True)
class LowLevel(_Voxels):
    """log10 E_inc and the voxels over E_inc; voxels below the threshold count as 0."""

    @property
    def width(self) -> int:
        """Numbers per shower."""
        return 1 + int(self.voxels.shape[1])

    def rows(self, rows: IntArray, place: device) -> Tensor:
        """Return the inputs of some showers."""
        voxels = cut(self.voxels[rows], self.summary.threshold)
        energy = _column(self.summary.incident_energy[rows], place)
        return cat([energy.log10(), from_numpy(voxels).to(place, float64) / energy], dim=1)


@dataclass(frozen=True)
class LowLevelNormalised(_Voxels):
    """log10 E_inc, the voxels over their layer's energy and log10 of the layers' energies.

    Voxels below the threshold count in the numerators, not in the layers' energies: the script of
    the challenge has it so.
    """

    @property
    def width(self) -> int:
        """Numbers per shower."""
        return 1 + int(self.voxels.shape[1]) + self.summary.geometry.n_layers

    def rows(self, rows: IntArray, place: device) -> Tensor:
        """Return the inputs of some showers."""
        energy = _column(self.summary.incident_energy[rows], place)
        layers = from_numpy(self.summary.layer_energy[rows]).to(place)
        layer_of_voxel = from_numpy(self.summary.geometry.layer_of_voxel).to(place)
        voxels = from_numpy(self.voxels[rows]).to(place, float64)
        voxels /= (layers + EPSILON)[:, layer_of_voxel]
        return cat([energy.log10(), voxels, (layers + 1e-8).log10()], dim=1)


def high_level(summary: Summary) -> Columns:
    """Return the high-level features as inputs."""
    return Columns(high_level_features(summary))


def _column(values: FloatArray, place: device) -> Tensor:
    return from_numpy(values)[:, None].to(place)
