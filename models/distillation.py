"""A student that draws in one pass what an autoregressive teacher draws voxel by voxel."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.family import TrainableModel
from caloforge.models.networks.masked_flow import MaskedFlow
from caloforge.models.objectives.objective import held


class Student(TrainableModel):
    """An inverse autoregressive flow, trained by the density of its teacher.

    Probability density distillation (van den Oord et al., arXiv:1711.10433, section 4): the Kullback-Leibler divergence of the
    student's showers from the teacher's density, both known in one pass. Beside it the student should give back the
    showers of which the teacher has made its noise (Krause and Shih, CaloFlow II, arXiv:2110.11377, section 3).
    """

    def __init__(self, network: MaskedFlow) -> None:
        super().__init__()
        self.network = network

    def forward(self, part: str, batch: tuple[Batch, MaskedFlow], draws: Draws) -> Tensor:
        """Return the loss per voxel.

        Args:
            part: there is one.
            batch: showers, and the trained teacher.
            draws: source of the noise.
        """
        showers, teacher = batch
        x, condition = showers.coded, showers.condition
        z = draws.normal(*x.shape)
        drawn, log_det = self.network.through(z, condition)
        with held(teacher):
            nll = cast("Tensor", teacher(drawn, condition))
        with torch.no_grad():
            noise, _ = teacher.through(x, condition)
        # -log p of the student: that of its noise, constant on average, plus its log-determinant.
        divergence = (nll - log_det).mean() / x.shape[1] - _NORMAL_ENTROPY
        again = (self.network.push(noise, condition) - x).square().mean()
        return divergence + again

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return network-space showers (B, V) of noise (B, V) in one pass."""
        return self.network.push(noise, condition)


_NORMAL_ENTROPY = 1.4189385332046727
"""Of a standard normal number, in nats: log(2 pi e) / 2."""
