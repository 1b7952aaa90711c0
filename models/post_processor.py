"""A network that mends the voxels that another one draws."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.geometry import Geometry
from caloforge.models.batch import Batch
from caloforge.models.family import TrainableModel
from caloforge.models.networks.architecture import Architecture
from caloforge.models.networks.backbone import Kind, build_network
from caloforge.models.networks.critic import WithCritic
from caloforge.models.objectives.bib_ae import mmd
from caloforge.models.objectives.hinge import hinge
from caloforge.models.objectives.objective import held

HOTTEST = 64
"""Voxels of a shower whose sorted spectrum is compared."""

NEAR = 0.1
"""Weight of the mean squared change: what need not be mended is left as it is."""


class Mender(WithCritic):
    """x + gain * network(x), with a gain that begins small, and a critic of the result."""

    title: ClassVar[str] = "a network that mends showers, and a critic"
    needs: ClassVar[Kind] = "V -> V"

    def __init__(self, geometry: Geometry, n_conditions: int, config: Any) -> None:
        Architecture.__init__(self, geometry, n_conditions, config)
        self.network = build_network(geometry, config, n_conditions=n_conditions)
        self.gain = nn.Parameter(torch.tensor(0.01))
        self.add_critic(geometry, n_conditions, config, normalised=True)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return mended voxels (B, V)."""
        out: Tensor = x + self.gain * self.network(x, condition)
        return out


class PostProcessor(TrainableModel):
    """Mends drawn voxels in network space: against a critic, by their sorted spectrum, and no more than needed.

    Source: Buhmann et al., Getting High, arXiv:2005.05334, section 3.4 (there in energies; here the coding has the spectrum of
    single voxels right already, and what is mended is how they depend on each other).
    """

    parts = ("critic", "mender")
    betas = (0.0, 0.9)

    def __init__(self, geometry: Geometry, n_conditions: int, network: Any) -> None:
        super().__init__()
        self.network = Mender(geometry, n_conditions, network)

    def parameters_of(self, part: str) -> list[nn.Parameter]:
        """Return the parameters of the critic, or of what mends."""
        if part == "critic":
            return self.network.critic_parameters()
        return [*self.network.network.parameters(), self.network.gain]

    def forward(self, part: str, batch: tuple[Batch, Tensor], draws: Draws) -> Tensor:
        """Return the loss of a part.

        Args:
            part: ``critic`` or ``mender``.
            batch: showers, and what was drawn for their conditions, (B, V) in network space.
            draws: not needed.
        """
        showers, drawn = batch
        x, condition = showers.coded, showers.condition
        if part == "critic":
            with torch.no_grad():
                mended = self.network(drawn, condition)
            return hinge(self.network.critic(x, condition), self.network.critic(mended, condition))
        with held(self.network.features, self.network.score):
            mended = self.network(drawn, condition)
            score = self.network.critic(mended, condition).mean()
        change = (mended - drawn).square().mean()
        loss: Tensor = mmd(hottest(mended.float()), hottest(x)) - score + NEAR * change
        return loss

    def mend(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return mended voxels (B, V)."""
        out: Tensor = self.network(x, condition)
        return out


def hottest(x: Tensor) -> Tensor:
    """Return the greatest values of each shower, falling, (B, up to HOTTEST)."""
    return x.topk(min(HOTTEST, x.shape[1]), dim=1).values
