"""What every read-out geometry can say of its voxels, whatever their shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_VOXELS = 10_000_000
"""Of a shower: 250 times CaloChallenge's dataset 3. More is a slip of a zero, and fills the memory."""

MOST_MM = 1e6
"""A kilometre: no calorimeter is wider."""


@dataclass(frozen=True)
class Geometry(ABC):
    """The voxels of a shower, layer by layer.

    A voxel is any volume that is read out: a bin of a scoring mesh, a cell, a channel. V is their number, L that of
    the layers. "Layer" means an index into the layers that have voxels. The transverse coordinates are called eta and
    phi, as CaloChallenge does; they are lengths.

    Attributes:
        name: what the geometry is called, e.g. ``dataset_2``.
    """

    form: ClassVar[str]
    """How a geometry of this kind is written: the suffix of its text file and the end of its HDF5 attribute's name."""

    voxel_order: ClassVar[str]
    """Order of a shower's voxels, in words."""

    name: str

    @abstractmethod
    def to_text(self) -> str:
        """Return the geometry as the text of a file, without its name."""

    @property
    @abstractmethod
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of voxels of each layer, (L,), none of them 0."""

    @property
    @abstractmethod
    def r_of_voxel(self) -> FloatArray:
        """Distance of each voxel from the shower axis in mm, (V,)."""

    @property
    @abstractmethod
    def eta_of_voxel(self) -> FloatArray:
        """First transverse coordinate of each voxel in mm, (V,); see :attr:`transverse_layers`."""

    @property
    @abstractmethod
    def phi_of_voxel(self) -> FloatArray:
        """Second transverse coordinate of each voxel in mm, (V,); see :attr:`transverse_layers`."""

    @property
    @abstractmethod
    def radius(self) -> float:
        """Distance of the outermost edge of all voxels from the shower axis, along x or y, mm."""

    @property
    @abstractmethod
    def is_regular(self) -> bool:
        """Whether all layers have the same voxels."""

    @property
    @abstractmethod
    def area_of_voxel(self) -> FloatArray:
        """Area of each voxel across the shower axis in mm^2, (V,)."""

    @property
    @abstractmethod
    def transverse_layers(self) -> tuple[int, ...]:
        """Layers whose voxels have eta and phi; in the others both are 0 for all voxels."""

    @property
    @abstractmethod
    def neighbours(self) -> IntArray:
        """Pairs of voxels of the same layer that lie side by side, (P, 2); each pair once, the lower number first."""

    @property
    @abstractmethod
    def symmetries(self) -> IntArray:
        """Voxel orders ``p`` that map the geometry onto itself, (S, V), S at least 1, the identity first.

        ``shower[p]`` is the shower turned or mirrored; the orders are a group.
        """

    @property
    @abstractmethod
    def is_symmetric(self) -> bool:
        """Whether the geometry has any symmetry about the shower axis."""

    @property
    @abstractmethod
    def asymmetries(self) -> FloatArray:
        """Functions of the voxels whose energy-weighted mean over a layer is 0 in the mean of many showers, (V, K).

        They are so if the showers have the :attr:`symmetries` of the geometry.
        """

    @property
    @abstractmethod
    def layer_depths(self) -> tuple[float, ...] | None:
        """How deep each layer lies along the shower axis in mm, (L,); None if that is not known."""

    @abstractmethod
    def difference(self, other: Geometry) -> str | None:
        """Say where the voxels of another geometry differ from these ones; None if they do not."""

    @property
    def n_layers(self) -> int:
        """Number of layers that have voxels."""
        return len(self.layer_sizes)

    @cached_property
    def n_voxels(self) -> int:
        """Number of voxels of a shower."""
        return sum(self.layer_sizes)

    @cached_property
    def layer_slices(self) -> tuple[slice, ...]:
        """Where the voxels of each layer stand in a shower."""
        ends = np.cumsum(self.layer_sizes).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))

    @cached_property
    def layer_of_voxel(self) -> IntArray:
        """Layer of each voxel, (V,)."""
        return np.repeat(np.arange(self.n_layers), self.layer_sizes)

    @property
    def size_in_words(self) -> str:
        """Numbers of layers and voxels."""
        return f"{self.n_layers} layer{'s' * (self.n_layers > 1)}, {self.n_voxels} voxels"

    def __str__(self) -> str:
        """Return name and size, for messages."""
        return f"{self.name!r} ({self.size_in_words})"


def difference_of_sizes(ours: Geometry, theirs: Geometry) -> str | None:
    """Say how the numbers of voxels and layers of two geometries differ; None if they do not."""
    if ours.n_voxels != theirs.n_voxels or ours.n_layers != theirs.n_layers:
        return f"it is {theirs}, not {ours}"
    for i, (a, b) in enumerate(zip(ours.layer_sizes, theirs.layer_sizes, strict=True)):
        if a != b:
            return f"layer {i} has {b} voxels, not {a}"
    return None
