"""A critic beside other networks: it scores showers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from caloforge.geometry import Geometry
from caloforge.models.networks.architecture import Architecture
from caloforge.models.networks.backbone import Backbone, build_network


class WithCritic(Architecture):
    """An architecture that scores showers, whatever else it does.

    Attributes:
        features: backbone of the critic.
        score: from its values per voxel to the score.
    """

    features: Backbone
    score: nn.Sequential

    def add_critic(self, geometry: Geometry, n_conditions: int, network: object, *, normalised: bool = False) -> None:
        """Build the critic; ``normalised``: see :func:`normalise_spectrally`."""
        self.features = build_network(geometry, network, n_conditions=n_conditions)
        self.score = nn.Sequential(nn.SiLU(), nn.Linear(geometry.n_voxels, 1))
        if normalised:
            normalise_spectrally(self.features)
            normalise_spectrally(self.score)

    def critic(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the score of each shower (B, V) given its condition (B, C), (B, 1)."""
        out: Tensor = self.score(self.features(x, condition))
        return out

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what an optimiser of the critic moves."""
        return [*self.features.parameters(), *self.score.parameters()]


def normalise_spectrally(network: nn.Module) -> None:
    """Divide all linear maps of a network by their largest singular value, in place.

    Weights that begin at zero have none and are left alone: those by which conditions shift and scale features.
    Source: Miyato et al., arXiv:1802.05957; for both players Zhang et al., SAGAN, arXiv:1805.08318, section 3.2.
    """
    for part in list(network.modules()):
        if isinstance(part, nn.Linear | nn.Conv3d) and torch.any(part.weight):
            spectral_norm(part)
        for name, features in getattr(part, "linear_maps", {}).items():
            spectral_norm(part, name, dim=features)
