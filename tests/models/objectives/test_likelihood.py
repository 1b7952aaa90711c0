"""Likelihood of the coupling flow against zuko's, and against the normal distribution."""

from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from exact_gaussian import coded_batch, seeded
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from zuko.distributions import NormalizingFlow
from zuko.transforms import ComposedTransform, CouplingTransform, DependentTransform, Transform

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.networks.couplings import Couplings, CouplingsConfig, SplineCoupling
from caloforge.models.objectives.likelihood import Likelihood, LikelihoodConfig

MESH = CylindricalGeometry("mesh", (Layer(0, (0.0, 1.0), 1), Layer(1, (0.0, 2.0), 4)))
OBJECTIVE = Likelihood(LikelihoodConfig())


def flow(scale: float) -> Couplings:
    config = CouplingsConfig.parse(
        {"network": {"backbone": "mlp", "width": 16, "blocks": 1}, "couplings": 3, "bins": 5}, where="test"
    )
    torch.manual_seed(0)
    network = Couplings(MESH, 2, config)
    for coupling in network.couplings:
        nn.init.constant_(coupling.scale, scale)
    return network


def zukos(network: Couplings, condition: Tensor) -> NormalizingFlow:
    """The same flow for one condition (1, C), put together by zuko."""

    def transform(coupling: SplineCoupling) -> CouplingTransform:
        stays = torch.zeros(MESH.n_voxels, dtype=torch.bool)
        stays[coupling.kept] = True

        def splines(kept: Tensor) -> Transform:
            return DependentTransform(coupling._spline(kept, condition.expand(len(kept), -1)), 1)

        return CouplingTransform(splines, stays)

    steps = [transform(cast("SplineCoupling", coupling)) for coupling in network.couplings]
    return NormalizingFlow(ComposedTransform(*steps), Independent(Normal(torch.zeros(5), torch.ones(5)), 1))


@pytest.mark.parametrize("condition", [(0.0, 0.0), (1.0, -2.0)])
def test_it_is_that_of_zuko(condition: tuple[float, float]) -> None:
    network, one = flow(1.0), torch.tensor([condition])
    x = 2 * torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = -zukos(network, one).log_prob(x)
        ours = network(x, one.expand(40, -1))
        loss = OBJECTIVE.loss(network, coded_batch(x, one.expand(40, -1)), seeded(0)).value
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert loss.item() == pytest.approx(theirs.mean().item() / 5, abs=1e-5)


def test_what_is_drawn_has_the_density_of_zuko_s_inverse() -> None:
    network, one = flow(1.0), torch.tensor([[0.5, 0.5]])
    noise = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        drawn = network.draw(noise, one.expand(40, -1))
        wanted = zukos(network, one).transform.inv(noise)
    assert not torch.allclose(drawn, noise, atol=0.1)
    assert torch.allclose(drawn, wanted, atol=1e-4)


def test_normal_showers_are_best_left_as_they_are() -> None:
    """Without scale the flow is the identity: the loss is the entropy of N(0, 1), and nothing pulls at the scale."""
    network = flow(0.0)
    gradients, losses = [], []
    for seed in range(20):
        network.zero_grad()
        draws = seeded(seed)
        batch = coded_batch(draws.normal(1000, 5), draws.normal(1000, 2))
        loss = OBJECTIVE.loss(network, batch, draws).value
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.stack([coupling.scale.grad.clone() for coupling in network.couplings]))
    gradient = torch.stack(gradients)
    assert torch.tensor(losses).mean().item() == pytest.approx((1 + math.log(2 * math.pi)) / 2, abs=0.02)
    error = gradient.std(0) / 20**0.5
    assert (error < 0.03).all()
    assert (gradient.mean(0).abs() < 4 * error).all()
