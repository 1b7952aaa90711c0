"""Denoising diffusion: take the noise of some level away from a shower."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.networks.vector_field import VectorField
from caloforge.models.objectives.objective import Loss, Meaning, Objective, ObjectiveConfig

Target = Literal["v", "eps", "x"]


_LEAST = 0.02
"""Where there is next to nothing of the shower in x, an error of the noise would be blown up without bound."""


class DenoisingConfig(ObjectiveConfig):
    """Settings of the diffusion.

    Attributes:
        name: ``denoising``.
        target: what the network gives: the noise (``eps``), the shower (``x``), or ``v``, a mixture of both
            that is well defined at every level.
        times: discrete noise levels T of the training.
    """

    name: str = "denoising"
    target: Target = "v"
    times: int = Field(default=1000, gt=0)


class Denoising(Objective):
    """Noise levels t = 1 .. T on the cosine schedule; the network gives eps, x or v.

    x_t = a_t x_0 + s_t n with a_t = cos(pi t / 2T), s_t = sin(pi t / 2T); v = a_t n - s_t x_0.

    Sources: Ho et al., DDPM, arXiv:2006.11239, algorithm 1; Nichol and Dhariwal, arXiv:2102.09672
    (cosine); Salimans and Ho, arXiv:2202.00512, section 4 and appendix D (targets).
    """

    Config = DenoisingConfig
    works_on = VectorField
    gives: ClassVar[Meaning] = "denoiser"

    def loss(self, network: VectorField, batch: Batch, draws: Draws, *, part: str = "model") -> Loss:
        """Return the mean squared error of the target at random noise levels."""
        x, target = batch.coded, self.config.target
        level = draws.integers(1, self.config.times + 1, len(x), 1)
        angle = level / self.config.times * (math.pi / 2)
        noise = draws.normal(*x.shape)
        noisy = torch.cos(angle) * x + torch.sin(angle) * noise
        wanted = {
            "v": lambda: torch.cos(angle) * noise - torch.sin(angle) * x,
            "eps": lambda: noise,
            "x": lambda: x,
        }[target]()
        given = network(noisy, angle / (math.pi / 2), batch.condition)
        value = (given - wanted).square().mean()
        return Loss(value, estimate=lambda: separate(target, noisy, angle, given)[0], paired=True)

    def view(self, network: VectorField) -> Callable[..., tuple[Tensor, Tensor]]:
        """Return what splits a noisy shower at a time in [0, 1] into shower and noise."""

        def denoise(x: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
            return separate(self.config.target, x, t * (math.pi / 2), network(x, t, condition))

        return denoise


def separate(target: Target, noisy: Tensor, angle: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Return shower and noise of a noisy shower, given what the network says of it.

    Args:
        target: what the network gives.
        noisy: (B, V) cos(angle) shower + sin(angle) noise.
        angle: (B, 1) in [0, pi / 2].
        given: (B, V) output of the network.
    """
    a, s = torch.cos(angle), torch.sin(angle)
    if target == "v":
        return a * noisy - s * given, s * noisy + a * given
    if target == "x":
        return given, (noisy - a * given) / s.clamp_min(1e-6)
    return (noisy - s * given) / a.clamp_min(_LEAST), given
