"""What is fitted to the training sample before the networks learn, and that they do learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_families import quick

from caloforge.geometry import load_geometry
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.families.tree import Tree
from caloforge.models.training.train import train
from caloforge.models.tree.axis import ExpectedAxis
from caloforge.models.tree.spectrum import sharpest_bends
from caloforge.preprocessing.prepared import open_split

pytestmark = pytest.mark.slow


def test_peaks_of_single_particles_are_found_in_a_broad_spectrum() -> None:
    rng = np.random.default_rng(0)
    broad = 10 ** rng.uniform(-1, 3, 60_000)
    peaks = [rng.normal(e, 0.12 * e, n) for e, n in ((3.0, 8000), (6.2, 4000))]
    found = sharpest_bends(np.concatenate([broad, *peaks]).astype(np.float32), 2)
    assert sorted(found) == pytest.approx([3.0, 6.2], rel=0.08)
    assert len(sharpest_bends(np.full(100, 2.0, np.float32), 2)) == 2


def test_the_expected_axis_follows_the_conditions() -> None:
    geometry = load_geometry("siw_demo")
    axis = ExpectedAxis(geometry, 2)
    generator = torch.Generator().manual_seed(0)
    conditions = torch.rand(400, 2, generator=generator) - 0.5
    x, y = torch.as_tensor(geometry.eta_of_voxel).float(), torch.as_tensor(geometry.phi_of_voxel).float()
    shift = torch.stack([6 * conditions[:, 0] + 1, -4 * conditions[:, 1]], 1)
    # Weights that are linear in x and y move the centre by a known amount.
    square = (x**2).mean(), (y**2).mean()
    voxels = 1 + shift[:, :1] * x / square[0] + shift[:, 1:] * y / square[1]
    axis.solve(axis.sums(conditions[:200], voxels[:200]) + axis.sums(conditions[200:], voxels[200:]))
    assert float(axis.directed) == 1
    for layer in range(geometry.n_layers):
        place = geometry.layer_slices[layer]
        ratio = (x[place] ** 2).mean() / square[0]
        assert (axis(conditions)[layer, :, 1] - ratio * shift[:, 0]).abs().max() < 0.2


@pytest.fixture(scope="module")
def trees(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tree, Tree]:
    """The same tree after 1 step and after 60 steps of each stage."""
    folder = tmp_path_factory.mktemp("trees")
    for steps in (1, 60):
        overrides = quick("tree", steps=steps)
        request = TrainingRequest(
            showers=small_showers, prepared=small_prepared, output=folder / str(steps), family="tree",
            overrides=overrides, seed=0,
        )  # fmt: skip
        train(request)
    first, last = (load_bundle(folder / str(steps)).network for steps in (1, 60))
    return first, last  # type: ignore[return-value]


def test_splits_are_learnt(trees: tuple[Tree, Tree], small_showers: Path, small_prepared: Path) -> None:
    held_out = open_split(small_showers, small_prepared, "validation")
    conditions = torch.from_numpy(held_out.conditions.incident_energy).float()[:, None]
    voxels = torch.from_numpy(np.where(held_out.read() < trees[0].data.threshold, 0, held_out.read()))
    before, after = (tree.log_prob(conditions, voxels) for tree in trees)
    for part in ("layers", "rings", "cells"):  # the trends say nearly all of 300 showers' totals
        gain = after[part] - before[part]
        assert float(gain.mean()) > 3 * float(gain.std() / len(gain) ** 0.5), part


def test_the_networks_of_the_first_layers_begin_as_the_others_ended(trees: tuple[Tree, Tree]) -> None:
    tree = trees[0]
    for one, other in zip(tree.early.parameters(), tree.cells.parameters(), strict=True):
        assert (one - other).abs().max() < 0.02  # one step of the optimiser
    assert any(not torch.equal(a, b) for a, b in zip(tree.early.parameters(), tree.cells.parameters(), strict=True))
