"""Denoising with EDM's preconditioning: the network always sees and gives numbers of width 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.vector_field import VectorField
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig


class EDMConfig(ObjectiveConfig):
    """Settings of EDM, named as in the paper.

    Attributes:
        name: ``edm``.
        sigma_data: width of the showers in network space; the coding makes it 1, images have 0.5.
        p_mean: mean of log sigma in the training, -1.2 for images and as far from ``sigma_data`` here.
        p_std: standard deviation of log sigma.
    """

    name: str = "edm"
    sigma_data: float = Field(default=1.0, gt=0)
    p_mean: float = -0.5
    p_std: float = Field(default=1.2, gt=0)


class EDM(Objective):
    """Denoiser D(y; s) = c_skip y + c_out F(c_in y; s) of y = shower + s noise, with log-normal s.

    c_skip = d^2 / (s^2 + d^2), c_out = s d / (s^2 + d^2)^(1/2), c_in = 1 / (s^2 + d^2)^(1/2), d = sigma_data; the loss
    (s^2 + d^2) / (s d)^2 |D - shower|^2 is |F - (shower - c_skip y) / c_out|^2. The network is told the time
    t = (2 / pi) arctan s, not log s / 4: it fits the range of its time features.

    With d = 1 and s = tan(angle), F is -v of :class:`caloforge.models.objectives.denoising.Denoising`: what differs is how
    often each level of noise is trained.
    Source: Karras et al., arXiv:2206.00364, eq. 7 and table 1.
    """

    Config = EDMConfig
    works_on = VectorField
    gives: ClassVar[Meaning] = "denoiser"

    def loss(self, network: VectorField, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the weighted mean squared error of the denoised shower."""
        x = batch.coded
        sigma = torch.exp(self.config.p_mean + self.config.p_std * draws.normal(len(x), 1))
        angle = torch.atan(sigma)
        noise = draws.normal(*x.shape)
        noisy = torch.cos(angle) * x + torch.sin(angle) * noise
        clean = self._denoised(network, noisy, angle, batch.condition)
        weight = (sigma**2 + self.config.sigma_data**2) / (sigma * self.config.sigma_data) ** 2
        return Loss((weight * (clean - x).square()).mean(), estimate=lambda: clean, paired=True)

    def view(self, network: VectorField) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return what splits a noisy shower at a time in [0, 1] into shower and noise."""

        def denoise(x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
            angle = t * (math.pi / 2)
            clean = self._denoised(network, x, angle, condition)
            return clean, (x - torch.cos(angle) * clean) / torch.sin(angle).clamp_min(1e-6)

        return denoise

    def _denoised(self, network: VectorField, noisy: Tensor, angle: Tensor, condition: Tensor) -> Tensor:
        """Return the shower in cos(angle) shower + sin(angle) noise; y of the paper is that over cos(angle)."""
        d, a, s = self.config.sigma_data, torch.cos(angle), torch.sin(angle)
        width = torch.sqrt(s**2 + (a * d) ** 2)  # (s^2 + d^2)^(1/2) of the paper, times cos(angle): finite everywhere
        given = network(noisy / width, angle / (math.pi / 2), condition)
        clean: Tensor = a * d**2 / width**2 * noisy + s * d / width * given
        return clean
