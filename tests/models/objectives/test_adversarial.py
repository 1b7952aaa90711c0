"""Games of a generator against a critic at scores that are known, and what spectral norms hold."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from exact_gaussian import LINE, coded_batch, seeded
from torch import Tensor, nn

from caloforge.models.family import _with_plain_weights
from caloforge.models.networks.adversaries import Adversaries, AdversariesConfig
from caloforge.models.networks.critic import normalise_spectrally
from caloforge.models.networks.layers import LayersConfig
from caloforge.models.objectives.adversarial import Adversarial
from caloforge.models.objectives.hinge import Hinge, HingeConfig
from caloforge.models.objectives.non_saturating import NonSaturating, NonSaturatingConfig


class Line(nn.Module):
    """A generator of one point of one voxel, and a critic of given slope."""

    noise_features = 1

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))
        self.features = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.features.weight, slope)
        self.score = nn.Identity()

    def draw(self, noise: Tensor, condition: Tensor) -> Tensor:
        return self.place.expand(len(noise), 1)

    def critic(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.score(self.features(x))


def loss_of(objective: Adversarial, network: nn.Module, part: str) -> Tensor:
    """Return the loss where all true showers are 2."""
    return objective.loss(network, coded_batch(torch.full((8, 1), 2.0)), seeded(0), part=part).value


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_cross_entropy_and_penalty_of_the_first_game() -> None:
    network = Line(1.5)
    free, held = (NonSaturating(NonSaturatingConfig(penalty=penalty)) for penalty in (0.0, 0.8))
    assert loss_of(free, network, "critic").item() == pytest.approx(softplus(-3.0) + softplus(0.0))
    assert (loss_of(held, network, "critic") - loss_of(free, network, "critic")).item() == pytest.approx(0.4 * 1.5**2)
    assert loss_of(free, network, "generator").item() == pytest.approx(softplus(0.0))


@pytest.mark.parametrize(("slope", "wanted"), [(0.25, 0.5 + 1.0), (2.0, 1.0), (-1.0, 3.0 + 1.0)])
def test_margins_of_the_hinge(slope: float, wanted: float) -> None:
    assert loss_of(Hinge(HingeConfig()), Line(slope), "critic").item() == pytest.approx(wanted)


@pytest.mark.parametrize("objective", [NonSaturating(NonSaturatingConfig()), Hinge(HingeConfig())])
def test_each_player_moves_its_own_weights_its_own_way(objective: Adversarial) -> None:
    network = Line(0.2)
    loss_of(objective, network, "critic").backward()
    assert network.place.grad is None
    assert network.features.weight.grad.item() < 0, "steeper"
    network.zero_grad()
    loss_of(objective, network, "generator").backward()
    assert network.features.weight.grad is None
    assert network.place.grad.item() < 0, "towards the showers"
    assert network.features.weight.requires_grad


def singular_values(network: nn.Module, passes: int = 30) -> list[float]:
    """Return the largest one of each linear map after so many forward passes."""
    for _ in range(passes):
        for part in network.modules():
            for name in list(getattr(part, "parametrizations", {})):
                getattr(part, name)
    maps: list[Any] = []
    for part in network.eval().modules():
        if hasattr(part, "parametrizations"):
            for name in part.parametrizations:
                features = getattr(part, "linear_maps", {}).get(name, 0)
                weight = getattr(part, name)
                maps.append(weight.movedim(features, 0).flatten(1))
    return [torch.linalg.matrix_norm(weight, 2).item() for weight in maps]


@pytest.mark.parametrize("backbone", [{"backbone": "mlp", "width": 16}, {"backbone": "unet", "width": 8}, "layers"])
def test_linear_maps_of_both_players_have_the_norm_one(backbone: Any) -> None:
    torch.manual_seed(0)
    network = LayersConfig(width=16, blocks=1, heads=2) if backbone == "layers" else backbone
    pair = Adversaries(LINE, 2, AdversariesConfig(network=network, latent=3, spectral_norm=True))
    found = singular_values(pair.generator) + singular_values(pair.features) + singular_values(pair.score)
    assert len(found) >= 9
    assert found == pytest.approx([1.0] * len(found), abs=0.02)


def test_weights_that_begin_at_zero_are_left_alone() -> None:
    """They have no norm to be divided by."""
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    nn.init.zeros_(network[1].weight)
    normalise_spectrally(network)
    assert torch.isfinite(network(torch.ones(1, 3))).all()
    assert not hasattr(network[1], "parametrizations")


def test_plain_weights_do_the_same_and_the_original_keeps_its_own() -> None:
    torch.manual_seed(0)
    config = AdversariesConfig(network=LayersConfig(width=16, blocks=1, heads=2), latent=3, spectral_norm=True)
    pair = Adversaries(LINE, 2, config).eval()
    plain = _with_plain_weights(pair)  # type: ignore[arg-type]
    noise, condition = torch.randn(5, pair.noise_features), torch.randn(5, 2)
    wanted = pair.draw(noise, condition)
    assert torch.allclose(plain.draw(noise, condition), wanted)
    assert torch.allclose(plain.critic(wanted, condition), pair.critic(wanted, condition))
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert pair.generator.embed.shape == plain.generator.embed.shape
    assert any("parametrizations" in name for name in pair.state_dict())
