"""WGAN-GP where the optimal critic is known: showers at one point, generated ones at another."""

from __future__ import annotations

import pytest
import torch
from exact_gaussian import LINE, coded_batch, seeded
from torch import Tensor, nn

from caloforge.models.networks.adversaries import Adversaries, AdversariesConfig
from caloforge.models.objectives.wgan_gp import WGANGP, WGANGPConfig, gradient_penalty

TRUE, DRAWN = torch.tensor([1.0, 2.0, 0.0, -1.0]), torch.tensor([1.0, -1.0, 4.0, -1.0])
DISTANCE = 5.0  # between the two
ROOT = 2.0  # of the number of voxels: slopes are measured per root of V
PENALTY = 7.0
OBJECTIVE = WGANGP(WGANGPConfig(penalty=PENALTY))


class TwoPoints(nn.Module):
    """A generator of one point, and a linear critic that rises towards the showers."""

    noise_features = 1

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.place = nn.Parameter(DRAWN.clone())
        self.features = nn.Linear(4, 1, bias=False)
        self.features.weight.data = (slope * (TRUE - DRAWN) / DISTANCE / ROOT)[None]
        self.score = nn.Identity()

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        return self.place.expand(len(noise), 4)

    def critic(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.score(self.features(x))


def loss_of(network: nn.Module, part: str, n: int = 8) -> Tensor:
    return OBJECTIVE.loss(network, coded_batch(TRUE.expand(n, 4)), seeded(0), part=part).value


@pytest.mark.parametrize(("slope", "penalty"), [(1.0, 0.0), (3.0, 4.0), (0.0, 1.0), (-1.0, 0.0)])
def test_penalty_is_the_squared_distance_of_the_slope_from_one(slope: float, penalty: float) -> None:
    network = TwoPoints(slope)
    found = gradient_penalty(network.critic, torch.randn(8, 4), torch.zeros(8, 1))
    assert found.item() == pytest.approx(penalty, abs=1e-5)


def test_loss_of_the_optimal_critic_is_the_wasserstein_distance() -> None:
    assert loss_of(TwoPoints(1.0), "critic").item() == pytest.approx(-DISTANCE / ROOT, abs=1e-5)
    assert loss_of(TwoPoints(-1.0), "critic").item() == pytest.approx(DISTANCE / ROOT, abs=1e-5)


def test_the_critic_gains_distance_until_the_penalty_holds_it() -> None:
    """-slope W + penalty (slope - 1)^2 is least at slope 1 + W / (2 penalty)."""
    network = TwoPoints(1 + DISTANCE / ROOT / (2 * PENALTY))
    loss_of(network, "critic").backward()
    assert network.features.weight.grad.abs().max() < 1e-5
    assert network.place.grad is None
    network = TwoPoints(1.0)
    loss_of(network, "critic").backward()
    # Down the gradient is up the slope.
    assert (network.features.weight.grad * network.features.weight).sum() < 0


def test_the_penalty_is_taken_everywhere_between_true_and_generated() -> None:
    """The critic x^2 / 2 has slope x, between 0 and 2: its mean penalty is that of U(0, 2), 1/3."""
    network = TwoPoints(1.0)
    network.draw = lambda noise, condition: torch.full((len(noise), 1), 2.0)  # type: ignore[method-assign]
    network.critic = lambda x, condition: x**2 / 2  # type: ignore[method-assign]
    n = 20000
    loss = OBJECTIVE.loss(network, coded_batch(torch.zeros(n, 1)), seeded(0), part="critic").value
    # 5 standard errors; (x - 1)^2 has standard deviation 0.3.
    assert loss.item() == pytest.approx(2 + PENALTY / 3, abs=5 * PENALTY * 0.3 / n**0.5)


def test_the_generator_moves_towards_the_showers() -> None:
    network = TwoPoints(1.0)
    loss = loss_of(network, "generator")
    assert loss.item() == pytest.approx(-(network.critic(DRAWN[None], TRUE)).item())
    loss.backward()
    assert torch.allclose(-network.place.grad, (TRUE - DRAWN) / DISTANCE / ROOT)
    assert network.features.weight.grad is None


def test_each_player_moves_its_own_weights() -> None:
    network = Adversaries(LINE, 1, AdversariesConfig(latent=3))
    own = {part: {id(p) for p in OBJECTIVE.parameters_of(network, part)} for part in OBJECTIVE.parts}
    assert not own["critic"] & own["generator"]
    assert own["critic"] | own["generator"] == {id(p) for p in network.parameters()}
    for part, weights in own.items():
        network.zero_grad()
        OBJECTIVE.loss(network, coded_batch(torch.randn(6, 2)), seeded(0), part=part).value.backward()
        assert {id(p) for p in network.parameters() if p.grad is not None} <= weights
    assert OBJECTIVE.parts.count("critic") == 3
