"""A variational autoencoder whose decoder also plays against a critic."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.adversarial_autoencoder import AdversarialAutoencoder
from caloforge.models.networks.architecture import Architecture
from caloforge.models.objectives.elbo import ELBO, ELBOConfig
from caloforge.models.objectives.hinge import hinge
from caloforge.models.objectives.objective import Loss, held


class VAEGANConfig(ELBOConfig):
    """Settings of the two losses.

    Attributes:
        name: ``vae_gan``.
        adversarial: weight of the critic's score beside the bound per voxel.
    """

    name: str = "vae_gan"
    adversarial: float = Field(default=0.05, ge=0)


class VAEGAN(ELBO):
    """The evidence lower bound, and a critic of reconstructions and of showers from the prior.

    The decoder wants high scores of both; the encoder is trained by the bound alone. Source: Larsen et al.,
    arXiv:1512.09300, algorithm 1, with the likelihood of voxels in place of the distance between the critic's features: the
    coding's noise is part of a shower, and no reconstruction can have that of another.
    """

    Config = VAEGANConfig
    works_on = AdversarialAutoencoder
    parts: ClassVar[tuple[str, ...]] = ("critic", "model")
    betas: ClassVar[tuple[float, float]] = (0.5, 0.99)

    def parameters_of(self, network: Architecture, part: str) -> list[nn.Parameter]:
        """Split the parameters between critics and autoencoder."""
        assert isinstance(network, AdversarialAutoencoder)
        return network.critic_parameters() if part == "critic" else network.own_parameters()

    def loss(self, network: Any, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the critic's loss, or the bound less the weighted score of drawn showers."""
        x, condition = batch.coded, batch.condition
        with torch.no_grad():
            mean, log_var = network.encode(x, condition)
        prior, noise = draws.normal(*mean.shape), draws.normal(*mean.shape)
        posterior = mean + torch.exp(log_var / 2) * noise
        voxel_noise = draws.normal(len(x), 4 * x.shape[1]).chunk(2, 1)
        if part == "critic":
            with torch.no_grad():
                drawn = self._drawn(network, (prior, posterior), voxel_noise, condition)
            both = torch.cat([condition, condition])
            return Loss(hinge(network.critic(x, condition), network.critic(drawn, both)))
        bound = super().loss(network, batch, draws)
        with held(network.features, network.score):
            drawn = self._drawn(network, (prior, posterior), voxel_noise, condition)
            score = network.critic(drawn, torch.cat([condition, condition])).mean()
        return Loss(bound.value - self.config.adversarial * score, bound.estimate, bound.paired)

    @staticmethod
    def _drawn(
        network: AdversarialAutoencoder, latents: tuple[Tensor, Tensor], noise: tuple[Tensor, ...], condition: Tensor
    ) -> Tensor:
        """Return showers of both kinds of latent numbers, one after the other, (2B, V)."""
        both = torch.cat([condition, condition])
        return network.draw_through(torch.cat(latents), torch.cat(noise), both)
