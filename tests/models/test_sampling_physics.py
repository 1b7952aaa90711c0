"""Samplers against distributions known in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from exact_gaussian import MEAN, STD, gaussian_target, gaussian_velocity
from torch import Tensor, nn

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.layer_energies import LayerEnergies
from caloforge.models.networks.couplings import Couplings, CouplingsConfig, negative_log_likelihood, splits
from caloforge.models.objectives.denoising import Denoising, DenoisingConfig
from caloforge.models.samplers.ddim import DDIM, DDIMConfig
from caloforge.models.samplers.ode import Euler, EulerConfig, Heun, HeunConfig, Midpoint, MidpointConfig
from caloforge.models.samplers.sampler import Sampler

if TYPE_CHECKING:
    from caloforge.models.networks.vector_field import VectorField

MESH = CylindricalGeometry("mesh", (Layer(0, (0.0, 1.0, 2.0, 3.0), 2),))
N = 4000


def noise() -> Tensor:
    return torch.randn(N, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("target", ["v", "eps", "x"])
@pytest.mark.parametrize(("steps", "tolerance"), [(25, 0.1), (200, 0.02)])
def test_ddim_converges_to_a_gaussian(target: Any, steps: int, tolerance: float) -> None:
    objective = Denoising(DenoisingConfig(target=target))
    network = cast("VectorField", lambda x, t, condition: gaussian_target(target, x, t))
    x = DDIM(DDIMConfig()).sample(objective.view(network), noise(), torch.zeros(N, 0), steps)
    # DDIM is of first order: the width is 7 % low after 25 steps, 1 % after 200.
    assert x.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x.std().item() == pytest.approx(STD, rel=tolerance)


@pytest.mark.parametrize(
    ("sampler", "steps", "tolerance"),
    [
        (Heun(HeunConfig()), 4, 0.08),
        (Heun(HeunConfig()), 12, 0.02),
        (Midpoint(MidpointConfig()), 12, 0.02),
        (Euler(EulerConfig()), 200, 0.02),
    ],
)
def test_integration_reproduces_a_gaussian(sampler: Sampler, steps: int, tolerance: float) -> None:
    x = sampler.sample(gaussian_velocity, noise(), torch.zeros(N, 0), steps)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x.std().item() == pytest.approx(STD, rel=tolerance)


@pytest.mark.parametrize(
    ("sampler", "order"), [(Euler(EulerConfig()), 1), (Midpoint(MidpointConfig()), 2), (Heun(HeunConfig()), 2)]
)
def test_order_of_the_integration(sampler: Sampler, order: int) -> None:
    """Half the step, 2^order less error: dx/dt = x from 1 is e at t = 1."""
    one = torch.ones(1, 1, dtype=torch.float64)
    errors = [abs(sampler.sample(lambda x, t, c: x, one, one, n).item() - math.e) for n in (40, 80)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)


def couplings(width: int) -> CouplingsConfig:
    return CouplingsConfig.parse({"network": {"backbone": "mlp", "width": width}, "bins": 6}, where="test")


def random_flow() -> Couplings:
    torch.manual_seed(0)
    flow = Couplings(MESH, 3, couplings(16))
    for coupling in flow.couplings:
        nn.init.constant_(coupling.scale, 0.5)  # far from the identity
    return flow.double()


def test_coupling_flow_inverts() -> None:
    flow = random_flow()
    x, condition = 2 * torch.randn(50, 6).double(), torch.randn(50, 3).double()
    z = x
    with torch.no_grad():
        for coupling in flow.couplings:
            z, _ = coupling(z, condition)
        back = flow.draw(z, condition)
    assert not torch.allclose(z, x, atol=0.1)
    # The splines' numbers are computed in single precision.
    assert torch.allclose(back, x, atol=1e-3)


def test_log_determinant_is_that_of_the_jacobian() -> None:
    coupling = random_flow().couplings[0]
    condition = torch.randn(1, 3).double()
    x = torch.randn(6).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: coupling(v[None], condition)[0][0], x)
    assert coupling(x[None], condition)[1].item() == pytest.approx(torch.linalg.slogdet(jacobian)[1].item(), abs=1e-5)


def test_density_of_the_flow_is_normalised() -> None:
    torch.manual_seed(1)
    mesh = CylindricalGeometry("two", (Layer(0, (0.0, 1.0, 2.0), 1),))
    flow = Couplings(mesh, 1, couplings(8))
    for coupling in flow.couplings:
        nn.init.constant_(coupling.scale, 1.0)
    axis = torch.linspace(-8, 8, 401)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.exp(-negative_log_likelihood(flow.couplings, grid, torch.zeros(len(grid), 1)))
    assert (density.sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=0.02)


def test_every_feature_moves_in_one_coupling_of_each_pair() -> None:
    for kept, moved in splits(7, 4):
        assert sorted([*kept.tolist(), *moved.tolist()]) == list(range(7))
    first, second = splits(7, 2)
    assert first[0].tolist() == second[1].tolist()
    assert [moved.tolist() for _, moved in splits(1, 3)] == [[0], [0], [0]]


def test_empty_layers_follow_their_bernoulli_numbers() -> None:
    torch.manual_seed(0)
    model = LayerEnergies(3, 1)
    for parameter in model.occupancy.parameters():
        nn.init.zeros_(parameter)
    model.occupancy[-1].bias.data = torch.tensor([0.0, 3.0, -1.0])
    with torch.no_grad():
        _, active = model.decode(torch.randn(N, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(N, 1))
    share = active.mean(0)
    # Showers without any layer get their likeliest one, so shares are slightly above p.
    assert share[0].item() == pytest.approx(0.5, abs=0.05)
    assert share[1].item() == pytest.approx(torch.sigmoid(torch.tensor(3.0)).item(), abs=0.05)
    assert share[2].item() == pytest.approx(torch.sigmoid(torch.tensor(-1.0)).item(), abs=0.05)
    assert (active.sum(1) > 0).all()
