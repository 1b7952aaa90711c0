"""Extra terms in MeV: zero for equal showers, known for a shift, and with gradients that reach the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from small_families import VOXEL_FAMILIES

from caloforge.draws import Draws
from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.models.batch import Batch, Decoded
from caloforge.models.losses.shower_centre import centre, shower_centre
from caloforge.models.losses.shower_moments import moments, shower_moments
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES, LOSSES
from caloforge.models.training.data import TrainingData
from caloforge.models.training.train import data_spec
from caloforge.preprocessing.prepared import load_prepared, open_split

MESH = CylindricalGeometry("mesh", (Layer(0, (0.0, 10.0), 1), Layer(1, (0.0, 2.0, 4.0), 4)))


def batch_of(voxels: torch.Tensor) -> Batch:
    n = len(voxels)
    return Batch(
        MESH, 0.1, raw_conditions=torch.ones(n, 1), layer_energy=torch.ones(n, 2), layer_hits=torch.ones(n, 2), voxels=lambda: voxels
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
    true, near, far = showers(1, 2, 3, 4), showers(1, 2, 3, 5), showers(5, 6, 7, 8)
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


@pytest.mark.parametrize("loss", [shower_centre, shower_moments])
def test_gradients_are_those_of_finite_differences(loss: object) -> None:
    torch.manual_seed(0)
    true, drawn = torch.rand(3, MESH.n_voxels).double() + 0.5, torch.rand(3, MESH.n_voxels).double() + 0.5
    for paired in (True, False):
        assert torch.autograd.gradcheck(
            lambda x: loss(batch_of(true), Decoded(x, paired)),  # type: ignore[operator]  # noqa: B023
            drawn.requires_grad_(True),
        )


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
        size = {"network": {"backbone": "mlp", "width": 16, "blocks": 1}}
        config = resolve(family, "demo", {"losses": losses, "model": size})
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
