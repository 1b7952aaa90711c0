"""The voxel classifier of the quick protocol: its features, and what it sees that the high-level features do not."""

import numpy as np
import pytest

from caloforge.geometry import load_geometry
from caloforge.showers import open_showers
from caloforge.validation.metrics.classifier import VOXEL_TREES, classifier_auc
from caloforge.validation.metrics.compare import compare
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.metrics.voxel_features import voxel_features
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.summary import summarise


def test_features_by_hand(irregular_mesh):
    # Layers of 1 x 2, 5 x 3, 1 x 1 and 4 x 2 voxels (alpha, r).
    rng = np.random.default_rng(0)
    voxels = (rng.random((3, irregular_mesh.n_voxels)) * (rng.random((3, irregular_mesh.n_voxels)) < 0.7)).astype("f4")
    voxels[1, irregular_mesh.layer_slices[1]] = 0
    found = voxel_features([voxels[:2], voxels[2:]], irregular_mesh)
    rows = []
    for shower in voxels.astype(float):
        row = []
        for layer, place in zip(irregular_mesh.active_layers, irregular_mesh.layer_slices, strict=True):
            cells = shower[place].reshape(layer.n_alpha, layer.n_r)
            row += [*cells.sum(axis=0), *(cells > 0).sum(axis=0), *sorted(cells.ravel())[-4:]]
            if layer.n_alpha > 1:
                products = [
                    np.sqrt(cells[a, r] * cells[a - 1, r]) for a in range(layer.n_alpha) for r in range(layer.n_r)
                ]
                row.append(sum(products) / max(cells.sum(), 1e-9))
        rows.append(row)
    assert found == pytest.approx(np.array(rows), rel=1e-5, abs=1e-6)


def test_layers_that_go_on_overlap(mesh):
    voxels = np.zeros((2, mesh.n_voxels), np.float32)
    cells = voxels.reshape(2, 6, 4, 3)
    cells[0, 2, 1, 1] = cells[0, 3, 1, 1] = 5.0  # the same voxel of two layers
    cells[1, 2, 1, 1] = cells[1, 3, 2, 1] = 5.0  # another one
    found = voxel_features([voxels], mesh)
    # Each layer has 3 rings, 3 numbers of hits, 4 hottest voxels, the overlap within and, from the second, with the last.
    assert found.shape == (2, 6 * 11 + 5)
    assert found[:, 3 * 12 + 10].tolist() == [1, 0]
    assert not np.isnan(found).any()


def test_a_rotation_changes_nothing():
    geometry = load_geometry("dataset_2")
    voxels = np.random.default_rng(1).exponential(1, (2, geometry.n_voxels)).astype("f4")
    turned = voxels[:, geometry.rotation(5)]
    assert voxel_features([turned], geometry) == pytest.approx(voxel_features([voxels], geometry), rel=1e-4)


def test_it_sees_what_is_hidden_from_the_high_level_features(demo_showers, write):
    showers = open_showers(demo_showers)
    reference, second, other = (showers.select(range(k, 2400, 3)) for k in range(3))
    geometry, energy, voxels = showers.geometry, other.conditions.incident_energy, other.read()
    rng = np.random.default_rng(2)
    for layer, place in zip(geometry.active_layers, geometry.layer_slices, strict=True):
        # Each ring keeps its energies and hits, but not their neighbours.
        cells = voxels[:, place].reshape(-1, layer.n_alpha, layer.n_r)
        voxels[:, place] = rng.permuted(cells, axis=1).reshape(len(cells), -1)
    shuffled = write("shuffled", geometry, energy, voxels)
    truth, floor, found = (Sample(s, summarise(s, threshold=showers.threshold)) for s in (reference, second, shuffled))
    same = classifier_auc(truth.voxel_features, floor.voxel_features, trees=VOXEL_TREES)
    assert same.value == pytest.approx(0.5, abs=4 * same.error)
    seen = classifier_auc(truth.voxel_features, found.voxel_features, trees=VOXEL_TREES)
    assert seen.sigma_from(same) > 4
    assert truth.voxel_features[:, 0] == pytest.approx(high_level_features(truth.summary)[:, 0])


def test_the_quick_protocol_has_it(toy_showers, mesh, write):
    samples = [write(str(seed), mesh, *toy_showers(mesh, 120, seed)) for seed in (1, 2)]
    found = compare(*(Sample(s, summarise(s, threshold=0.1)) for s in samples), seed=3).features["auc_low"]
    assert found.value == pytest.approx(0.5, abs=0.2)
    assert found.n == 120
    assert found.roc is not None
