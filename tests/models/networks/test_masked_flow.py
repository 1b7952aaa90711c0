"""A map that goes voxel by voxel: what it sees, its Jacobian, and its way back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.networks.backbone import build_network
from caloforge.models.networks.masked_flow import MaskedFlow, MaskedFlowConfig
from caloforge.models.networks.masked_mlp import MaskedMLPConfig

MESH = CylindricalGeometry("mesh", (Layer(0, (0.0, 1.0, 2.0), 3),))
SIZE = MaskedMLPConfig(width=24, blocks=2)


def build(transforms: int = 3) -> MaskedFlow:
    torch.manual_seed(0)
    flow = MaskedFlow(MESH, 2, MaskedFlowConfig(network=SIZE, transforms=transforms, bins=5)).double()
    nn.init.constant_(flow.scales, 2.0)  # far from the identity
    for block in (block for network in flow.networks for block in network.blocks):
        nn.init.normal_(block.modulation.weight, std=0.3)
    return flow


def showers(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, size, generator=generator, dtype=torch.float64) for size in (6, 2))  # type: ignore[return-value]


def test_a_masked_network_sees_the_voxels_before_and_all_of_them() -> None:
    torch.manual_seed(0)
    network = build_network(MESH, SIZE, n_conditions=2, channels=2).double()
    x, condition = showers(1)
    of_x = torch.autograd.functional.jacobian(lambda v: network(v[None], condition)[0], x[0]).abs()
    seen = of_x.reshape(6, 2, 6).amax(1) > 0
    assert torch.equal(seen, torch.ones(6, 6).tril(-1).bool())
    of_condition = torch.autograd.functional.jacobian(lambda c: network(x, c[None])[0], condition[0])
    assert (of_condition != 0).all()


def test_the_way_back_undoes_the_way_there() -> None:
    flow = build()
    x, condition = showers(20)
    z, _ = flow.through(x, condition)
    assert (z - x).abs().max() > 0.3
    assert torch.allclose(flow.draw(z, condition), x, atol=1e-3)  # splines are float32
    assert torch.equal(flow.push(x, condition), z)


def test_the_determinant_is_that_of_the_jacobian() -> None:
    flow = build()
    x, condition = showers(4)
    _, found = flow.through(x, condition)
    for row in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda v, row=row: flow.push(v[None], condition[row : row + 1])[0], x[row]
        )
        assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(found[row].item(), abs=1e-4)


def test_the_density_is_that_of_normal_noise_times_the_determinant() -> None:
    flow = build()
    x, condition = showers(4)
    z, log_det = flow.through(x, condition)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    assert torch.allclose(flow(x, condition), -normal - log_det)


def test_the_last_voxel_of_one_transform_is_the_first_of_the_next() -> None:
    """With both directions every voxel depends on every other."""
    flow = build(2)
    x, condition = showers(1)
    seen = torch.autograd.functional.jacobian(lambda v: flow.push(v[None], condition)[0], x[0]) != 0
    assert seen.all()
    one = torch.autograd.functional.jacobian(lambda v: build(1).push(v[None], condition)[0], x[0]) != 0
    assert torch.equal(one.flip(0), torch.ones(6, 6).tril().bool())


def test_it_begins_near_the_identity() -> None:
    torch.manual_seed(0)
    flow = MaskedFlow(MESH, 2, MaskedFlowConfig(network=SIZE)).double()
    x, condition = showers(50)
    assert (flow.push(x, condition) - x).abs().mean() < 0.2
    assert flow(x, condition).mean().item() == pytest.approx(
        3 * math.log(2 * math.pi) + x.square().sum(1).mean().item() / 2, abs=0.3
    )
