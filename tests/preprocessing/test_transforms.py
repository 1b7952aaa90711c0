from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from caloforge.draws import Draws
from caloforge.geometry import Geometry, load_geometry
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.transforms import VOXEL_SCALINGS, Transforms, restore_layers
from caloforge.preprocessing.voxel_steps import LayerSums
from caloforge.showers import open_showers

pytestmark = pytest.mark.slow

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
def test_round_trip_over_all_stages(name: str, scaling: str) -> None:
    geometry = load_geometry(name)
    voxels = toy_showers(geometry)
    incident = voxels.sum(1, keepdim=True) * 1.3
    sums, transforms = LayerSums(geometry), Transforms.of(geometry, scaling)
    layers, hit_transform, transform = transforms
    draws = Draws(torch.Generator().manual_seed(0))
    context = sums.context_of(voxels, THRESHOLD)
    energy, hits = context.layer_energy, context.layer_hits
    fits = [part.fit() for part in transforms]
    for rows in (slice(0, 50), slice(50, None)):
        fits[0].update(energy[rows], incident[rows])
        fits[1].update(hits[rows], energy[rows], THRESHOLD, draws)
        fits[2].update(voxels[rows], sums.context(energy[rows], hits[rows], THRESHOLD), draws)
    for fit in fits:
        fit.finish()
    y, active = layers.encode(energy, incident, draws)
    h = hit_transform.encode(hits, energy, THRESHOLD, draws)
    x = transform.encode(voxels, context, draws)
    for coded in (y, h, x):
        assert coded.isfinite().all()
    back = layers.decode(y, active, incident)
    found = hit_transform.decode(h, back, THRESHOLD)
    assert torch.equal(found, hits)
    context = sums.context(back, found, THRESHOLD)
    restored = restore_layers(transform.decode(x, context), back, found, sums, THRESHOLD)
    total = voxels.sum(1, keepdim=True)
    assert ((back - energy).abs() / total).max() < 1e-5
    assert ((restored - voxels).abs() / total).max() < 1e-5
    assert torch.equal(restored > 0, voxels > 0)


def test_round_trip_of_real_showers(small_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(small_showers)
    prepared = prepare(showers, tmp_path / "prepared", settings=PrepareSettings(), seed=0)
    transforms = prepared.transforms()
    sums = LayerSums(showers.geometry)
    voxels = torch.from_numpy(showers.read())
    incident = torch.from_numpy(showers.conditions.incident_energy).float()[:, None]
    draws = Draws(torch.Generator().manual_seed(0))
    context = sums.context_of(voxels, prepared.threshold)
    y, active = transforms.energies.encode(context.layer_energy, incident, draws)
    back = transforms.energies.decode(y, active, incident)
    h = transforms.hits.encode(context.layer_hits, context.layer_energy, prepared.threshold, draws)
    hits = transforms.hits.decode(h, back, prepared.threshold)
    x = transforms.voxels.encode(voxels, context, draws)
    decoded = transforms.voxels.decode(x, sums.context(back, hits, prepared.threshold))
    restored = restore_layers(decoded, back, hits, sums, prepared.threshold)
    error = (restored - voxels).abs().max(1).values / voxels.sum(1)
    # Of an energy that is next to impossible in its place little is left in single precision.
    assert error.quantile(0.99) < 1e-5
    assert error.max() < 1e-4
    assert torch.equal(restored > 0, voxels > 0)
    # What networks see is of order one.
    assert x.std() == pytest.approx(1, abs=0.2)


def test_layer_sums_agree_with_numpy() -> None:
    geometry = load_geometry("dataset_1_pions")
    voxels = toy_showers(geometry)
    expected = np.stack([voxels[:, place].sum(1).numpy() for place in geometry.layer_slices], 1)
    assert np.allclose(LayerSums(geometry).sum(voxels).numpy(), expected, rtol=1e-5)


def test_restored_showers_have_energies_and_hits_of_their_layers_and_no_voxel_under_the_threshold() -> None:
    geometry = load_geometry("dataset_1_photons")
    generator = torch.Generator().manual_seed(0)
    voxels = torch.exp(3 * torch.randn(100, geometry.n_voxels, generator=generator))
    wanted = torch.exp(2 * torch.randn(100, geometry.n_layers, generator=generator)).clamp_min(THRESHOLD)
    wanted[:, 2] = 0
    hits = Transforms.of(geometry, "quantile").hits.decode(torch.randn(100, geometry.n_layers), wanted, THRESHOLD)
    sums = LayerSums(geometry)
    restored = restore_layers(voxels, wanted, hits, sums, THRESHOLD)
    assert torch.allclose(sums.sum(restored), wanted, rtol=1e-5)
    assert torch.equal(sums.sum((restored > 0).float()), hits)
    assert restored[restored > 0].min() >= THRESHOLD
    # The hottest are kept, in their order.
    for row in range(100):
        for layer, place in enumerate(geometry.layer_slices):
            n, hottest = int(hits[row, layer]), voxels[row, place].argsort(descending=True)
            kept = restored[row, place][hottest]
            assert (kept[:n] > 0).all()
            assert (kept[n:] == 0).all()
            assert (kept[:n].diff() <= 0).all()
