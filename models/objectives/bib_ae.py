"""The bounded-information-bottleneck autoencoder: critics on both ends."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.adversarial_autoencoder import BottleneckAutoencoder
from caloforge.models.objectives.hinge import hinge
from caloforge.models.objectives.objective import Loss, held
from caloforge.models.objectives.vae_gan import VAEGAN, VAEGANConfig


class BIBAEConfig(VAEGANConfig):
    """Settings of the losses.

    Attributes:
        name: ``bib_ae``.
        beta: weight of the Kullback-Leibler term, small: the latent critic and the MMD do most of its work.
        latent: weight of the latent critic's score.
        mmd: weight of the maximum mean discrepancy between latent numbers and the prior.
    """

    name: str = "bib_ae"
    beta: float = Field(default=0.5, ge=0)
    latent: float = Field(default=0.01, ge=0)
    mmd: float = Field(default=0.1, ge=0)


class BIBAE(VAEGAN):
    """The VAE-GAN's losses; in latent space also a critic and the maximum mean discrepancy to normal numbers.

    Sources: Voloshynovskiy et al., arXiv:1912.00830; for showers Buhmann et al., Getting High, arXiv:2005.05334,
    section 3.3.
    """

    Config = BIBAEConfig
    works_on = BottleneckAutoencoder

    def loss(self, network: Any, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the losses of both critics, or of the autoencoder."""
        loss = super().loss(network, batch, draws, part=part)
        condition = batch.condition
        with torch.set_grad_enabled(part == "model"):
            mean, log_var = network.encode(batch.coded, condition)
            latent = mean + torch.exp(log_var / 2) * draws.normal(*mean.shape)
        normal = draws.normal(*latent.shape)
        if part == "critic":
            game = hinge(network.latent_critic(normal, condition), network.latent_critic(latent, condition))
            return Loss(loss.value + game)
        with held(network.latent_score):
            score = network.latent_critic(latent, condition).mean()
        value = loss.value - self.config.latent * score + self.config.mmd * mmd(latent.float(), normal)
        return Loss(value, loss.estimate, loss.paired)


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of two samples (N, D), without bias.

    The kernel is the sum of inverse multiquadratics s / (s + |a - b|^2), s from 0.2 D to 20 D: Tolstikhin et al., Wasserstein
    auto-encoders, arXiv:1711.01558, section 4 and algorithm 2.
    Of several processes each takes that of its own rows.
    """
    n, scales = len(a), [2 * a.shape[1] * factor for factor in (0.1, 0.5, 1.0, 2.0, 10.0)]

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        squared = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)
        return torch.stack([s / (s + squared) for s in scales]).sum(0)

    def off_diagonal(table: Tensor) -> Tensor:
        return (table.sum() - table.diagonal().sum()) / (n * (n - 1))

    return off_diagonal(kernel(a, a)) + off_diagonal(kernel(b, b)) - 2 * kernel(a, b).mean()
