"""DDPM: each step draws from the posterior of the next lower level of noise."""

from __future__ import annotations

from pydantic import Field

from caloforge.models.samplers.ddim import DDIM
from caloforge.models.samplers.denoising import DenoisingSamplerConfig


class DDPMConfig(DenoisingSamplerConfig):
    """Settings of DDPM; see the base."""

    name: str = "ddpm"
    steps: int = Field(default=100, gt=0)


class DDPM(DDIM):
    """Ancestral sampling: DDIM with all of its noise fresh, which is the same (arXiv:2010.02502, section 4.1).

    Source: Ho et al., DDPM, arXiv:2006.11239, algorithm 2 with the posterior variance of eq. 7.
    """

    Config = DDPMConfig

    @property
    def eta(self) -> float:
        """Share of fresh noise: all."""
        return 1.0
