"""The evidence lower bound of a variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.autoencoder import Autoencoder, Mixture
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig


class ELBOConfig(ObjectiveConfig):
    """Settings of the bound.

    Attributes:
        name: ``elbo``.
        beta: weight of the Kullback-Leibler term (Higgins et al., beta-VAE).
    """

    name: str = "elbo"
    beta: float = Field(default=1.0, ge=0)


class ELBO(Objective):
    """-E_q[log p(x | z, c)] + beta KL(q(z | x, c) || N(0, 1)), per voxel.

    Source: Kingma and Welling, arXiv:1312.6114, eqs. 7 and 10.
    """

    Config = ELBOConfig
    works_on = Autoencoder
    gives: ClassVar[Meaning] = "map"

    def loss(self, network: Autoencoder, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the negative bound; the estimate is a reconstruction, each voxel at its likelier mode."""
        x, condition = batch.coded, batch.condition
        mean, log_var = network.encode(x, condition)
        noise = draws.normal(*mean.shape)
        mixture = network.decode(mean + torch.exp(log_var / 2) * noise, condition)
        kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var)
        value = (_negative_log_likelihood(mixture, x) + self.config.beta * kl.sum(1)).mean() / x.shape[1]
        return Loss(value, estimate=lambda: _likelier_mode(mixture), paired=True)

    def view(self, network: Autoencoder) -> Callable[..., Tensor]:
        """Return the decoder, which draws showers from noise."""
        return network.draw


def _negative_log_likelihood(mixture: Mixture, x: Tensor) -> Tensor:
    """Return (B,) -log p(x) of independent voxels."""
    pull = (x[:, :, None] - mixture.centre) * torch.exp(-mixture.log_width)
    log_weight = F.logsigmoid(torch.stack([-mixture.logit, mixture.logit], 2))
    nll = -torch.logsumexp(log_weight - 0.5 * pull**2 - mixture.log_width, 2) + 0.5 * math.log(2 * math.pi)
    return nll.sum(1)


def _likelier_mode(mixture: Mixture) -> Tensor:
    return torch.where(mixture.logit > 0, mixture.centre[:, :, 1], mixture.centre[:, :, 0])
