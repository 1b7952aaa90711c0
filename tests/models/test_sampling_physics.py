"""Samplers against distributions known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from caloforge.geometry import Geometry, Layer
from caloforge.models.coupling_flow import CouplingFlow, negative_log_likelihood, splits
from caloforge.models.diffusion import Diffusion
from caloforge.models.flow_matching import FlowMatching
from caloforge.models.layer_energies import LayerEnergies
from caloforge.models.presets import resolve

MESH = Geometry("mesh", (Layer(0, (0.0, 1.0, 2.0, 3.0), 2),))
MEAN, STD = 0.7, 0.4
N = 4000


class GaussianV(nn.Module):
    """The exact v for showers from N(MEAN, STD^2) per voxel, on the cosine schedule."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        angle = condition[:, :1]
        a, s = torch.cos(angle), torch.sin(angle)
        variance = (a * STD) ** 2 + s**2
        clean = MEAN + a * STD**2 / variance * (x - a * MEAN)
        noise = s / variance * (x - a * MEAN)
        return a * noise - s * clean


class GaussianVelocity(nn.Module):
    """The exact velocity E[x_1 - x_0 | x_t] for showers from N(MEAN, STD^2)."""

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        t = condition[:, :1]
        variance = (1 - t) ** 2 + (t * STD) ** 2
        centred = x - t * MEAN
        return MEAN + (t * STD**2 - (1 - t)) / variance * centred


def only_time(monkeypatch: pytest.MonkeyPatch, module: str, scale: float) -> None:
    monkeypatch.setattr(f"caloforge.models.{module}.time_features", lambda t, n: scale * t)


@pytest.mark.parametrize(("steps", "tolerance"), [(25, 0.1), (200, 0.02)])
def test_ddim_converges_to_a_gaussian(monkeypatch: pytest.MonkeyPatch, steps: int, tolerance: float) -> None:
    only_time(monkeypatch, "diffusion", torch.pi / 2)
    model = Diffusion(MESH, 0, resolve("diffusion", "demo").model)
    model.network = GaussianV()
    x = model.decode(torch.randn(N, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(N, 0), steps)
    # DDIM is of first order: the width is 7 % low after 25 steps, 1 % after 200.
    assert x.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x.std().item() == pytest.approx(STD, rel=tolerance)


@pytest.mark.parametrize("steps", [4, 12])
def test_heun_reproduces_a_gaussian(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    only_time(monkeypatch, "flow_matching", 1)
    model = FlowMatching(MESH, 0, resolve("flow_matching", "demo").model)
    model.network = GaussianVelocity()
    x = model.decode(torch.randn(N, 6, generator=torch.Generator().manual_seed(0)), torch.zeros(N, 0), steps)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.02)
    assert x.std().item() == pytest.approx(STD, rel=0.08 if steps == 4 else 0.02)


def random_flow() -> CouplingFlow:
    torch.manual_seed(0)
    flow = CouplingFlow(MESH, 3, resolve("coupling_flow", "demo", {"model": {"network": {"width": 16}}}).model)
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
        back = flow.decode(z, condition, None)
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
    mesh = Geometry("two", (Layer(0, (0.0, 1.0, 2.0), 1),))
    flow = CouplingFlow(mesh, 1, resolve("coupling_flow", "demo", {"model": {"network": {"width": 8}}}).model)
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
