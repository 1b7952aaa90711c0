"""The contract of what objectives and samplers work on: one backbone or several, joined for a purpose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from caloforge.config import Config
from caloforge.geometry import Geometry
from caloforge.models.networks.backbone import Kind


class Architecture(nn.Module, ABC):
    """Networks of a family of objectives, built of the backbone that the settings choose.

    Attributes:
        Config: class of its settings; ``network`` chooses the backbone.
        title: what it is, for messages.
        needs: what its backbone must be able to map.
        noise_features: standard normal numbers that a shower is drawn from.
    """

    Config: ClassVar[type[Config]]
    title: ClassVar[str]
    needs: ClassVar[Kind]
    noise_features: int

    @abstractmethod
    def __init__(self, geometry: Geometry, n_conditions: int, config: Any) -> None:
        """Build the networks.

        Args:
            geometry: the mesh, V voxels.
            n_conditions: number of condition features C.
            config: an instance of ``Config``.
        """
        super().__init__()
