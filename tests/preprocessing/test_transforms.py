from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from caloforge.draws import Draws
from caloforge.geometry import Geometry, load_geometry
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.transforms import (
    VOXEL_SCALINGS,
    LayerEnergyTransform,
    LayerSums,
    VoxelTransform,
    restore_layers,
)
from caloforge.showers import open_showers

THRESHOLD = 0.5


def toy_showers(geometry: Geometry, n: int = 200) -> torch.Tensor:
    """Energies over six decades, sparse, with empty layers anywhere and showers of one voxel."""
    rng = np.random.default_rng(1)
    voxels = np.exp(rng.normal(2, 3, (n, geometry.n_voxels)))
    voxels[rng.random(voxels.shape) < 0.6] = 0
    empty = rng.random((n, geometry.n_layers)) < 0.3
    voxels[empty[:, geometry.layer_of_voxel]] = 0
    voxels[voxels < THRESHOLD] = 0
    voxels[:3] = 0
    voxels[0, 0] = voxels[1, -1] = voxels[2, geometry.n_voxels // 2] = 7.0
    return torch.from_numpy(voxels[voxels.sum(1) > 0]).float()


def test_the_settings_know_every_coding() -> None:
    names = get_args(PrepareSettings.model_fields["voxel_scaling"].annotation)
    assert set(names) == set(VOXEL_SCALINGS)


@pytest.mark.parametrize("name", ["dataset_1_photons", "dataset_1_pions", "dataset_2"])
@pytest.mark.parametrize("scaling", VOXEL_SCALINGS)
def test_round_trip_over_both_stages(name: str, scaling: str) -> None:
    geometry = load_geometry(name)
    voxels = toy_showers(geometry)
    incident = voxels.sum(1, keepdim=True) * 1.3
    sums, layers, transform = (
        LayerSums(geometry),
        LayerEnergyTransform(geometry.n_layers),
        VoxelTransform(geometry, scaling),
    )
    draws = Draws(torch.Generator().manual_seed(0))
    energy = sums.sum(voxels)
    layer_fit, voxel_fit = layers.fit(), transform.fit()
    for rows in (slice(0, 50), slice(50, None)):
        layer_fit.update(energy[rows], incident[rows])
        voxel_fit.update(voxels[rows], sums.context(energy[rows], THRESHOLD), draws)
    layer_fit.finish()
    voxel_fit.finish()
    y, active = layers.encode(energy, incident, draws)
    x = transform.encode(voxels, sums.context(energy, THRESHOLD), draws)
    assert y.isfinite().all()
    assert x.isfinite().all()
    back = layers.decode(y, active, incident)
    context = sums.context(back, THRESHOLD)
    restored = restore_layers(transform.decode(x, context), back, sums, THRESHOLD)
    total = voxels.sum(1, keepdim=True)
    assert ((back - energy).abs() / total).max() < 1e-5
    assert ((restored - voxels).abs() / total).max() < 1e-5
    assert torch.equal(restored > 0, voxels > 0)


def test_round_trip_of_real_showers(small_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(small_showers)
    prepared = prepare(showers, tmp_path / "prepared", settings=PrepareSettings(), seed=0)
    layers, transform = prepared.transforms()
    sums = LayerSums(showers.geometry)
    voxels = torch.from_numpy(showers.read())
    incident = torch.from_numpy(showers.conditions.incident_energy).float()[:, None]
    draws = Draws(torch.Generator().manual_seed(0))
    energy = sums.sum(voxels)
    y, active = layers.encode(energy, incident, draws)
    back = layers.decode(y, active, incident)
    x = transform.encode(voxels, sums.context(energy, prepared.threshold), draws)
    restored = restore_layers(
        transform.decode(x, sums.context(back, prepared.threshold)), back, sums, prepared.threshold
    )
    assert ((restored - voxels).abs().max(1).values / voxels.sum(1)).max() < 1e-5
    assert torch.equal(restored > 0, voxels > 0)
    # What networks see is of order one.
    assert x.std() == pytest.approx(1, abs=0.2)


def test_layer_sums_agree_with_numpy() -> None:
    geometry = load_geometry("dataset_1_pions")
    voxels = toy_showers(geometry)
    expected = np.stack([voxels[:, place].sum(1).numpy() for place in geometry.layer_slices], 1)
    assert np.allclose(LayerSums(geometry).sum(voxels).numpy(), expected, rtol=1e-5)


def test_restored_showers_have_the_layer_energies_and_no_voxel_under_the_threshold() -> None:
    geometry = load_geometry("dataset_1_photons")
    generator = torch.Generator().manual_seed(0)
    voxels = torch.exp(3 * torch.randn(100, geometry.n_voxels, generator=generator))
    wanted = torch.exp(2 * torch.randn(100, geometry.n_layers, generator=generator)).clamp_min(THRESHOLD)
    wanted[:, 2] = 0
    sums = LayerSums(geometry)
    restored = restore_layers(voxels, wanted, sums, THRESHOLD)
    assert torch.allclose(sums.sum(restored), wanted, rtol=1e-5)
    hit = restored[restored > 0]
    assert hit.min() >= THRESHOLD * (1 - 1e-5)
