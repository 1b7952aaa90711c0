"""An autoencoder whose showers are judged by a critic, and whose latent numbers may be."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from caloforge.geometry import Geometry
from caloforge.models.networks.autoencoder import Autoencoder, AutoencoderConfig
from caloforge.models.networks.critic import WithCritic, normalise_spectrally


class AdversarialAutoencoder(Autoencoder, WithCritic):
    """Encoder, decoder, and a critic of showers with spectral norms."""

    title: ClassVar[str] = "an encoder, a decoder and a critic"

    def __init__(self, geometry: Geometry, n_conditions: int, config: AutoencoderConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.add_critic(geometry, n_conditions, config.network, normalised=True)

    def own_parameters(self) -> list[nn.Parameter]:
        """Return what is trained to reconstruct: encoder and decoder."""
        critics = {id(parameter) for parameter in self.critic_parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in critics]

    def draw_through(self, latent: Tensor, noise: Tensor, condition: Tensor) -> Tensor:
        """Return showers (B, V) of latent numbers and noise (B, 2V), as :meth:`draw`, with gradients for all of the mixture.

        The choice of a mode has none of its own: it takes that of the chance (straight-through, Bengio et al.,
        arXiv:1308.3432).
        """
        mixture = self.decode(latent, condition)
        choice, width = noise.chunk(2, 1)
        low, high = (mixture.centre + torch.exp(mixture.log_width) * width[:, :, None]).unbind(2)
        uniform = 0.5 * (1 + torch.erf(choice / 2**0.5))
        chance = torch.sigmoid(mixture.logit - torch.logit(uniform, eps=1e-7))
        return torch.where(chance > 0.5, high, low) + (chance - chance.detach()) * (high - low).detach()


class BottleneckAutoencoder(AdversarialAutoencoder):
    """The same with a critic of the latent numbers given the condition."""

    title: ClassVar[str] = "an encoder, a decoder and critics of showers and latent numbers"

    def __init__(self, geometry: Geometry, n_conditions: int, config: AutoencoderConfig) -> None:
        super().__init__(geometry, n_conditions, config)
        self.latent_score = nn.Sequential(
            nn.Linear(config.latent + n_conditions, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
        )
        normalise_spectrally(self.latent_score)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of both critics."""
        return [*super().critic_parameters(), *self.latent_score.parameters()]

    def latent_critic(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Return the score of latent numbers (B, latent), (B, 1)."""
        out: Tensor = self.latent_score(torch.cat([latent, condition], 1))
        return out
