"""The showers of one training step, in MeV and as networks see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from caloforge.geometry import Geometry


class Batch:
    """B showers: what they are in MeV, and what a stage of a family makes of them.

    A plain class, not a dataclass: Lightning Fabric copies dataclasses that it finds among the inputs of
    a network, and would lose what was worked out lazily.

    Attributes:
        geometry: the mesh: V voxels in L layers.
        threshold: MeV; no voxel is between 0 and this.
        raw_conditions: (B, K) float32, incident energy in MeV first, then angles in rad and PDG codes, those that there are.
        condition_names: K names.
        layer_energy: (B, L) float32, MeV.
        layer_hits: (B, L) float32, voxels that are not 0.
    """

    def __init__(
        self,
        geometry: Geometry,
        threshold: float,
        *,
        raw_conditions: Tensor,
        layer_energy: Tensor,
        layer_hits: Tensor,
        voxels: Callable[[], Tensor],
        condition_names: tuple[str, ...] = ("incident_energy",),
    ) -> None:
        """Take what is known; ``voxels`` is called once, when they are first asked for."""
        self.condition_names = condition_names
        self.geometry, self.threshold = geometry, threshold
        self.raw_conditions, self.layer_energy, self.layer_hits = raw_conditions, layer_energy, layer_hits
        self._voxels = voxels
        self._condition: Tensor | None = None
        self._encode: Callable[[Batch], Tensor] | None = None
        self._decode: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        """Return the number of showers B."""
        return len(self.raw_conditions)

    def seen_as(
        self,
        condition: Tensor,
        encode: Callable[[Batch], Tensor],
        decode: Callable[[Tensor], Tensor] | None = None,
    ) -> Batch:
        """Say how a stage codes the showers; returns the batch itself.

        Args:
            condition: (B, C), what the stage's network is given.
            encode: makes the coded values of the batch, when they are first asked for.
            decode: the way back, coded values to (B, V) MeV; None where there is none.
        """
        self._condition, self._encode, self._decode = condition, encode, decode
        return self

    @cached_property
    def voxels(self) -> Tensor:
        """(B, V) float32, MeV, turned and mirrored if the stage asked for that."""
        return self._voxels()

    @property
    def condition(self) -> Tensor:
        """(B, C) float32, the encoded conditions that the network is given."""
        assert self._condition is not None, "the stage has not said what its network is given"
        return self._condition

    @cached_property
    def coded(self) -> Tensor:
        """(B, F) float32: the showers in the space in which the network works."""
        assert self._encode is not None, "the stage has not said how it codes showers"
        return self._encode(self)

    @property
    def decodes(self) -> bool:
        """Whether there is a way back to MeV."""
        return self._decode is not None

    def decode(self, coded: Tensor) -> Tensor:
        """Return (B, V) MeV of coded values (B, F), with the conditions and the layers' energies and hits of this batch.

        Gradients pass wherever a voxel is hit; a voxel that is zeroed gets none.
        """
        assert self._decode is not None, "the stage knows no way back to MeV"
        return self._decode(coded)


@dataclass(frozen=True)
class Decoded:
    """Showers of a network that is being trained, for the extra terms of a loss.

    Attributes:
        showers: (B, V) float32, MeV, with gradients; row i has the conditions and layer energies of row i
            of the batch.
        paired: whether shower i is an estimate of shower i of the batch (a reconstruction, or what is left of it
            after its noise was taken away); otherwise the two are independent draws, and only their
            distributions may be compared.
    """

    showers: Tensor
    paired: bool
