"""The contract of a backbone: from network-space voxels and a condition to values per voxel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, SerializeAsAny
from torch import Tensor, nn

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Geometry
from caloforge.models.configuration import choice
from caloforge.models.registries import NETWORKS

Kind = Literal["V -> V", "part of V -> part of V", "each of V from those before"]
"""What a backbone can map: all voxels to all, some voxels to others, or to each voxel those before it in their order."""


class BackboneConfig(Config):
    """Size of a backbone; a class of backbones may have settings of its own.

    Attributes:
        backbone: its name.
        width: hidden features.
        blocks: number of blocks.
    """

    backbone: str
    width: int = Field(default=256, gt=0, le=65_536)
    blocks: int = Field(default=3, gt=0, le=1_000)


NetworkChoice = Annotated[SerializeAsAny[BackboneConfig], choice(NETWORKS, key="backbone")]
"""A setting that chooses a backbone: ``{backbone: NAME, ...}``."""


@dataclass(frozen=True)
class Voxels:
    """What a backbone is built over.

    Attributes:
        geometry: the mesh.
        inputs: (V_in,) voxels that are seen, rising.
        outputs: (V_out,) voxels for which values are given, rising.
        channels: values per output voxel.
        n_conditions: length of the condition C.
    """

    geometry: Geometry
    inputs: Tensor
    outputs: Tensor
    channels: int
    n_conditions: int


class Backbone(nn.Module, ABC):
    """A network ``net(x, condition)``: (B, V_in) and (B, C) to (B, V_out * channels), channels fastest.

    Attributes:
        Config: class of its settings.
        kinds: what it can map.
        needs_rings: whether it works on layers of rings only (:class:`CylindricalGeometry`), not on cells.
    """

    Config: ClassVar[type[BackboneConfig]]
    kinds: ClassVar[frozenset[Kind]]
    needs_rings: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def over(cls, voxels: Voxels, config: Any) -> Self:
        """Build it over the voxels of a geometry, with the settings of its ``Config``."""

    @abstractmethod
    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, V_in) and (B, C) to (B, V_out * channels), channels fastest."""


def build_network(
    geometry: Geometry,
    config: Any,
    *,
    n_conditions: int,
    channels: int = 1,
    inputs: Tensor | None = None,
    outputs: Tensor | None = None,
) -> Backbone:
    """Return a backbone over the voxels of a geometry.

    Args:
        geometry: the mesh.
        config: settings of a backbone, which say which one.
        n_conditions: C.
        channels: values per output voxel.
        inputs: voxels that are seen, rising; None means all. x has one column for each.
        outputs: voxels for which values are given, rising; None means all.

    Raises:
        InputError: the backbone does not work on such a geometry.
    """
    kind = NETWORKS.get(config.backbone)
    if kind.needs_rings and not isinstance(geometry, CylindricalGeometry):
        fitting = [
            name for name in NETWORKS if kind.kinds & (other := NETWORKS.get(name)).kinds and not other.needs_rings
        ]
        raise InputError(
            f"backbone {config.backbone!r} needs layers of rings, but geometry {geometry} has none; "
            f"choose {' or '.join(fitting)}"
        )
    everything = torch.arange(geometry.n_voxels)
    voxels = Voxels(
        geometry,
        everything if inputs is None else inputs,
        everything if outputs is None else outputs,
        channels,
        n_conditions,
    )
    return kind.over(voxels, config)
