"""The evidence lower bound in a model whose evidence is known: x = c + W z + width * noise, z from N(0, 1)."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from exact_gaussian import LINE, coded_batch, seeded
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from caloforge.models.networks.autoencoder import Autoencoder, AutoencoderConfig, Mixture
from caloforge.models.objectives import elbo
from caloforge.models.objectives.elbo import ELBO, ELBOConfig

W = torch.tensor([[1.0, 0.5], [2.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)  # orthogonal columns
WIDTH = 0.6
CORNERS = torch.tensor(list(product((-1.0, 1.0), repeat=2)), dtype=torch.float64)


class Corners:
    """The four corners in turn: their mean is that of N(0, 1)^2 for every quadratic function, exactly."""

    def normal(self, *shape: int) -> Tensor:
        return CORNERS.repeat(shape[0] // 4, 1)


class LinearGaussian(nn.Module):
    """Exact decoder; the encoder is the posterior, moved by ``shift`` and widened by exp(``log_scale`` / 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def posterior(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        variance = 1 / (1 + (W**2).sum(0) / WIDTH**2)
        return (x - condition) @ W * variance / WIDTH**2, variance.expand(len(x), 2)

    def encode(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.posterior(x, condition)
        return mean + self.shift, variance.log() + self.log_scale

    def decode(self, latent: Tensor, condition: Tensor) -> Mixture:
        centre = (condition + latent @ W.T)[:, :, None].expand(-1, -1, 2)
        return Mixture(torch.zeros_like(centre[:, :, 0]), centre, torch.full_like(centre, math.log(WIDTH)))


def showers() -> tuple[Tensor, Tensor]:
    """Showers and conditions, (N, 3), each four times: once for each corner."""
    condition, x = torch.randn(2, 25, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (2 * x).repeat_interleave(4, 0), condition.repeat_interleave(4, 0)


def loss_of(network: LinearGaussian, beta: float = 1.0) -> Tensor:
    x, condition = showers()
    loss: Tensor = ELBO(ELBOConfig(beta=beta)).loss(network, coded_batch(x, condition), Corners()).value
    return loss * 3  # it is per voxel


def evidence() -> Tensor:
    x, condition = showers()
    return MultivariateNormal(condition, W @ W.T + WIDTH**2 * torch.eye(3, dtype=torch.float64)).log_prob(x).mean()


def test_the_bound_is_the_evidence_where_the_encoder_is_the_posterior() -> None:
    network = LinearGaussian()
    loss = loss_of(network)
    assert loss.item() == pytest.approx(-evidence().item(), abs=1e-9)
    loss.backward()
    assert network.shift.grad.abs().max() < 1e-9
    assert network.log_scale.grad.abs().max() < 1e-9


@pytest.mark.parametrize(("shift", "log_scale"), [(0.4, 0.0), (-0.2, 0.7), (0.0, -0.5)])
def test_another_encoder_is_worse_by_its_distance_from_the_posterior(shift: float, log_scale: float) -> None:
    network = LinearGaussian()
    nn.init.constant_(network.shift, shift)
    nn.init.constant_(network.log_scale, log_scale)
    x, condition = showers()
    mean, variance = network.posterior(x, condition)
    q = Normal(mean + shift, (variance * math.exp(log_scale)).sqrt())
    gap = kl_divergence(q, Normal(mean, variance.sqrt())).sum(1).mean()
    assert gap > 0.05
    assert (loss_of(network) + evidence()).item() == pytest.approx(gap.item(), abs=1e-9)


def test_beta_weighs_the_distance_from_the_prior() -> None:
    network = LinearGaussian()
    mean, variance = network.posterior(*showers())
    prior = kl_divergence(Normal(mean, variance.sqrt()), Normal(0.0, 1.0)).sum(1).mean()
    assert (loss_of(network, 3.0) - loss_of(network, 0.0)).item() == pytest.approx(3 * prior.item(), abs=1e-9)


def mixture(n: int) -> Mixture:
    """Two voxels: one with a narrow upper mode that is rare, one with modes of equal weight."""
    logit = torch.tensor([-1.5, 0.0]).expand(n, 2)
    centre = torch.tensor([[-0.7, 2.0], [-1.0, 0.5]]).expand(n, 2, 2)
    return Mixture(logit, centre, torch.tensor([[0.0, -1.0], [-0.5, 0.3]]).expand(n, 2, 2))


def as_distribution(of: Mixture) -> MixtureSameFamily:
    weight = torch.stack([-of.logit, of.logit], 2) / 2
    return MixtureSameFamily(Categorical(logits=weight), Normal(of.centre, of.log_width.exp()))


def test_likelihood_of_two_modes_is_that_of_torch() -> None:
    x = 2 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    ours = elbo._negative_log_likelihood(mixture(50), x)
    assert torch.allclose(ours, -as_distribution(mixture(50)).log_prob(x).sum(1), atol=1e-5)


def test_showers_are_drawn_from_the_decoder_s_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 20000
    network = Autoencoder(LINE, 1, AutoencoderConfig(latent=2))
    monkeypatch.setattr(network, "decode", lambda latent, condition: mixture(len(latent)))
    x = network.draw(seeded(0).normal(n, network.noise_features), torch.zeros(n, 1))
    wanted = as_distribution(mixture(1))
    # 5 standard errors; the widths are of order one.
    assert torch.allclose(x.mean(0), wanted.mean[0], atol=5 * 1.2 / n**0.5)
    assert torch.allclose(x.var(0), wanted.variance[0], rtol=5 * (2 / n) ** 0.5)
    upper = (x[:, 0] > 1).float().mean()
    expected = 1 - wanted.cdf(torch.ones(1, 2))[0, 0]
    assert upper.item() == pytest.approx(expected.item(), abs=5 * 0.5 / n**0.5)
