"""Extra terms in MeV: zero for equal showers, known for a shift, and with gradients that reach the network."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small_families import VOXEL_FAMILIES, small_network

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.geometry import Cell, CellGeometry, CylindricalGeometry, Geometry, Layer
from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.expected_centre import depth, directions, expect, expected_centre, fit
from caloforge.models.losses.shower_centre import centre, shower_centre
from caloforge.models.losses.shower_moments import moments
from caloforge.models.losses.sparsity import layer_sparsity
from caloforge.models.losses.voxel_spectrum import counts_above
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES, LOSSES
from caloforge.models.training.data import TrainingData
from caloforge.models.training.train import data_spec
from caloforge.preprocessing.prepared import load_prepared, open_split

MESH = CylindricalGeometry("mesh", (Layer(0, (0.0, 10.0), 1), Layer(1, (0.0, 2.0, 4.0), 4)))


def batch_of(voxels: torch.Tensor, mesh: Geometry = MESH) -> Batch:
    n = len(voxels)
    return Batch(
        mesh, 0.1, raw_conditions=torch.ones(n, 1), layer_energy=torch.ones(n, 2), layer_hits=torch.ones(n, 2), voxels=lambda: voxels
    )  # fmt: skip


def showers(*voxels: int) -> torch.Tensor:
    """One shower for each voxel, with all of its energy there."""
    return torch.eye(MESH.n_voxels)[list(voxels)] * 50


def test_centre_is_the_energy_weighted_position() -> None:
    # Voxel 2: outer ring (r = 3 mm) of the first of four sectors, alpha = -3 pi / 4; voxel 0 has no position.
    expected = torch.tensor([-3 / 2**0.5, -3 / 2**0.5])
    assert torch.allclose(centre(showers(2), MESH)[0], expected, atol=1e-5)
    assert torch.allclose(centre(showers(2) + showers(0), MESH)[0], expected, atol=1e-5)
    assert not centre(showers(0), MESH).any()


def test_moments_of_radius_and_depth() -> None:
    r = 3 / 5
    assert torch.allclose(moments(showers(2), MESH)[0], torch.tensor([r, r**2, 1.0, 1.0]))
    half = moments(showers(0) + showers(2), MESH)[0]
    assert torch.allclose(half, torch.tensor([0.8, (1 + r**2) / 2, 0.75, 0.625]))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_is_zero_for_equal_showers_and_grows_with_a_shift(name: str) -> None:
    # Energies of their own, in one voxel or two.
    size = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    true, far = showers(1, 2, 3, 4) * size, showers(5, 6, 7, 8)
    true = true + 0.1 * size.square() * showers(2, 4, 6, 7)
    near = torch.cat([true[:3], showers(5)])
    loss = LOSSES.get(name)
    assert loss(batch_of(true), Decoded(true, paired=True)).item() == 0
    # Of independent draws only the distribution counts: another order is no distance.
    assert loss(batch_of(true), Decoded(true.flip(0), paired=False)).item() == 0
    assert loss(batch_of(true), Decoded(true.flip(0), paired=True)).item() > 0
    blurred = 0.5 * (true + far)
    assert loss(batch_of(true), Decoded(near, True)).item() > 0
    if name == "shower_centre":
        assert (
            0
            < shower_centre(batch_of(true), Decoded(blurred, True))
            < shower_centre(batch_of(true), Decoded(far, True))
        )


CELLS = CellGeometry(
    "cells",
    tuple(Cell(f"{i} {x} {y}", i, x, y, 10.0, 10.0) for i in (0, 1) for x in (-5.0, 5.0) for y in (-5.0, 5.0)),
)


@pytest.mark.parametrize("mesh", [MESH, CELLS], ids=lambda mesh: mesh.name)
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_those_of_finite_differences(name: str, mesh: Geometry) -> None:
    torch.manual_seed(0)
    true, drawn = (torch.rand(5, mesh.n_voxels).double() + 0.5 for _ in range(2))
    for paired in (True, False):
        assert torch.autograd.gradcheck(
            lambda x: LOSSES.get(name)(batch_of(true, mesh), Decoded(x, paired)),  # noqa: B023
            drawn.requires_grad_(True),
        )


def test_the_expected_centre_follows_the_direction() -> None:
    torch.manual_seed(1)
    theta, phi = 0.5 * torch.rand(50).double(), 6.28 * torch.rand(50).double()
    u = theta.tan()[:, None] * torch.stack([phi.cos(), phi.sin()], 1)
    # Energy in the first layer at (3, 4) and d = 10 mm; in the second b (z_2 - z_1) further.
    batch = batch_of(torch.rand(50, CELLS.n_voxels).double() + 0.1, CELLS)
    batch.raw_conditions = torch.stack([torch.ones(50).double(), theta, phi], 1)
    batch.condition_names = ("incident_energy", "theta", "phi")
    assert torch.allclose(directions(batch), u)
    z = depth(batch.voxels, CELLS)
    line = torch.tensor([10.0, 2.0, 3.0, 4.0]).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.models.losses.expected_centre.centre", lambda *_: expect(line, u, z))
        assert torch.allclose(fit(batch), line, atol=1e-2)
    # Of independent draws with other directions only residuals count: the same showers in another order are no distance.
    turned = batch_of(batch.voxels.flip(0), CELLS)
    assert expected_centre(turned, Decoded(batch.voxels.flip(0), paired=False)).item() == 0


def test_sparsity_counts_effective_voxels() -> None:
    found = layer_sparsity(torch.stack([showers(1)[0], showers(1)[0] + showers(2)[0]]), MESH)
    assert torch.allclose(found[:, 1], torch.tensor([1 - 1 / 8, 1 - 2 / 8]))
    assert torch.allclose(found[:, 0], torch.ones(2))  # nothing there


def test_the_spectrum_counts_voxels_above_energies() -> None:
    edges = torch.tensor([1.0, 10.0, 100.0])
    found = counts_above(torch.tensor([[0.0, 2.0, 50.0, 10.0]]), edges, 0.1)[0]
    odds = [(v / edges) ** (2 / math.log(10)) for v in (2.0, 50.0, 10.0)]
    assert torch.allclose(found, torch.stack([one / (1 + one) for one in odds]).sum(0))
    assert found[1] == pytest.approx(0.5 + 0.80 + 0.20, abs=0.01)  # one at the edge, one above, one below


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("family", VOXEL_FAMILIES)
def test_terms_change_the_loss_and_reach_the_network(
    family: str, name: str, small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    prepared = load_prepared(small_prepared)
    fabric = Fabric(accelerator="cpu", devices=1)
    data = TrainingData(open_split(small_showers, small_prepared, "train"), prepared, tmp_path, seed=0, fabric=fabric)

    def gradient(weight: float) -> tuple[float, torch.Tensor]:
        losses = [{"name": name, "weight": weight}] if weight else []
        config = resolve(family, "demo", {"losses": losses, "model": small_network(family, 16)})
        torch.manual_seed(0)
        model = FAMILIES.get(family)(config, data_spec(prepared, transforms=True))
        stage = model.stages()["voxels"]
        draws = Draws(torch.Generator().manual_seed(1))
        part = model.voxels.parts[-1]
        loss = model.voxels(part, stage.batch(data, 0, 16, draws), draws)
        loss.backward()
        return loss.item(), torch.cat([p.grad.flatten() for p in model.voxels.parameters() if p.grad is not None])

    plain, with_term, with_more = (gradient(weight) for weight in (0, 1, 2))
    assert with_more[0] - with_term[0] == pytest.approx(with_term[0] - plain[0], rel=1e-2)
    assert with_term[0] > plain[0]
    assert torch.isfinite(with_term[1]).all()
    assert (with_term[1] - plain[1]).norm() > 1e-6


def test_terms_may_be_text_so_that_an_ablation_can_vary_them() -> None:
    text = resolve("vae", "demo", {"losses": "sparsity:0.1+voxel_spectrum:2"})
    assert text == resolve(
        "vae", "demo", {"losses": [{"name": "sparsity", "weight": 0.1}, {"name": "voxel_spectrum", "weight": 2}]}
    )
    for wrong, said in (("sparsity", "expected NAME:WEIGHT"), ("sparsit:1", "did you mean 'sparsity'")):
        with pytest.raises(InputError, match=said):
            resolve("vae", "demo", {"losses": wrong})
