"""Generators of showers on cells: from real showers spread over FoCal-H's cells to a bundle, ONNX and a report."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from cell_grids import focal, unlike_cells
from projected import project
from small_families import quick

from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import export, run_onnx
from caloforge.models.registries import FAMILIES
from caloforge.models.training.train import train
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.prepared import load_prepared
from caloforge.showers import Conditions, open_showers

pytestmark = pytest.mark.slow

ENERGIES = Conditions(np.geomspace(2000.0, 90000.0, 12))


@pytest.fixture(scope="module")
def prepared(small_showers: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Showers on FoCal-H's cells and what was prepared of them."""
    folder = tmp_path_factory.mktemp("cells")
    showers = project(small_showers, folder / "showers.hdf5", focal(), threshold=1.0)
    prepare(open_showers(showers), folder / "prepared", settings=PrepareSettings(), seed=1)
    return showers, folder / "prepared"


def test_prepared_data_know_the_cells_and_their_symmetry(prepared: tuple[Path, Path]) -> None:
    found = load_prepared(prepared[1])
    assert found.geometry == focal()
    assert (prepared[1] / "geometry.csv").is_file()
    assert found.phi_symmetric


def test_showers_beside_the_axis_are_not_turned(prepared: tuple[Path, Path], tmp_path: Path) -> None:
    """Each cell's energy goes to the one on its right, where there is one of its size."""
    moved = tmp_path / "moved.hdf5"
    moved.write_bytes(prepared[0].read_bytes())
    geometry = focal()
    x, y, size = geometry.eta_of_voxel, geometry.phi_of_voxel, geometry.width_of_voxel
    right = [np.argmin(np.hypot(x - (x[i] - size[i]), y - y[i])) for i in range(249)]
    with h5py.File(moved, "a") as file:
        file["showers"][:] = file["showers"][:][:, right]
    assert not prepare(open_showers(moved), tmp_path / "prepared", settings=PrepareSettings(), seed=1).phi_symmetric


@pytest.mark.parametrize(
    "name", [name if name == "tree" else pytest.param(name, marks=pytest.mark.slow) for name in sorted(FAMILIES)]
)
def test_a_family_learns_cells_and_its_graph_draws_the_same(
    name: str, prepared: tuple[Path, Path], tmp_path: Path
) -> None:
    showers, folder = prepared
    request = TrainingRequest(
        showers=showers, prepared=folder, output=tmp_path / "bundle", family=name, overrides=quick(name), seed=1
    )
    train(request)
    assert (tmp_path / "bundle" / "geometry.csv").is_file()
    generator = load_bundle(tmp_path / "bundle")
    assert generator.geometry == focal()
    drawn = generator.sample(ENERGIES, seed=3)
    assert drawn.shape == (12, 249)
    hits = drawn[drawn > 0]
    assert hits.min() >= generator.threshold * (1 - 1e-6)
    assert 0.3 < drawn.sum() / ENERGIES.incident_energy.sum() < 3
    export(tmp_path / "bundle", tmp_path / "exported")
    graph = run_onnx(tmp_path / "exported", ENERGIES, seed=3)
    difference = np.abs(graph - drawn).sum(1) / drawn.sum(1)
    assert np.median(difference) < 1e-4


def test_the_tree_learns_several_layers_of_unlike_cells(small_showers: Path, tmp_path: Path) -> None:
    geometry = unlike_cells()
    showers = project(small_showers, tmp_path / "showers.hdf5", geometry, threshold=1.0, stretch=0.5)
    prepare(open_showers(showers), tmp_path / "prepared", settings=PrepareSettings(), seed=1)
    request = TrainingRequest(
        showers=showers, prepared=tmp_path / "prepared", output=tmp_path / "bundle", family="tree",
        overrides=quick("tree") | {"layers": {"steps": 150, "batch_size": 64, "ema": 0.9}}, seed=1,
    )  # fmt: skip
    train(request)
    drawn = load_bundle(tmp_path / "bundle").sample(ENERGIES, seed=3)
    layers = [drawn[:, place].sum() for place in geometry.layer_slices]
    truth = [open_showers(showers).read()[:, place].sum() for place in geometry.layer_slices]
    assert np.array(layers) / sum(layers) == pytest.approx(np.array(truth) / sum(truth), abs=0.1)
