"""Validation of showers on cells: what needs rings is left out, the rest is there."""

from __future__ import annotations

import numpy as np
import pytest
from cell_grids import focal, unlike_cells

from caloforge.geometry import CellGeometry
from caloforge.showers import Conditions, open_showers, write_showers
from caloforge.validation.metrics.voxel_features import voxel_features
from caloforge.validation.observables.summary import summarise_voxels
from caloforge.validation.plots.events import front_view, points, side_view, y_edges
from caloforge.validation.registries import OBSERVABLES
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow


def showers(geometry: CellGeometry, n: int, *, seed: int, at: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return energies and voxels of showers that fall off from (at, 0) mm."""
    rng = np.random.default_rng(seed)
    energy = np.exp(rng.uniform(np.log(1e3), np.log(1e5), n))
    r = np.hypot(geometry.eta_of_voxel - at, geometry.phi_of_voxel)
    voxels = geometry.area_of_voxel * np.exp(-r / rng.normal(9, 0.5, (n, 1))) * rng.gamma(2, 0.5, (n, len(r)))
    voxels *= energy[:, None] / voxels.sum(1, keepdims=True) * rng.normal(0.9, 0.05, (n, 1))
    return energy, np.where(voxels < 1, 0, voxels).astype(np.float32)


@pytest.mark.parametrize(
    "geometry", [pytest.param(focal(), marks=pytest.mark.slow), unlike_cells()], ids=["focal", "unlike"]
)
def test_showers_on_cells_are_judged_and_drawn_without_what_needs_rings(geometry, tmp_path):
    paths = {}
    for seed, (name, at) in enumerate({"reference": 0.0, "good": 0.0, "off": 3.0}.items()):
        energy, voxels = showers(geometry, 240, seed=seed, at=at)
        path = tmp_path / f"{name}.hdf5"
        with write_showers(path, geometry, attributes={"energy_threshold": 1.0}, provenance={}) as writer:
            writer.append(Conditions(energy), voxels)
        paths[name] = open_showers(path)
    reference = paths.pop("reference")
    metrics = validate(reference, paths, tmp_path / "out")
    found = set(metrics.table("separation"))
    needs_rings = {"radius_90", "radius_95", "sector_kept", "alpha_correlation", "ring_hits"}
    assert not found & needs_rings
    assert {"response", "centre_eta", "width_phi", "centre_r", "neighbour_correlation", "lateral_first_moment"} <= found
    assert ("layer_overlap" in found) == (geometry.n_layers > 1)
    assert not {"r90", "r95"} & set(metrics.table("physics"))
    assert metrics.row("off", "separation", "centre_eta").sigma > 4
    assert metrics.row("good", "separation", "centre_eta").sigma < 3
    assert metrics.row("off", "headline", "auc").value > metrics.row("good", "headline", "auc").value + 0.1
    drawn = {path.stem for path in (tmp_path / "out" / "plots").glob("*.png")}
    assert {"cells", "showers", "voxel_spectrum"} <= drawn
    assert not drawn & (needs_rings | {"lateral_profile", "lateral_ranges_energy", "images"})
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000


def test_the_summary_of_a_known_shower() -> None:
    geometry = focal()
    shower = np.zeros((2, 249), np.float32)
    right = int(np.argmin(np.hypot(geometry.eta_of_voxel - 39, geometry.phi_of_voxel)))
    below = int(np.argmin(np.hypot(geometry.eta_of_voxel, geometry.phi_of_voxel + 65 / 7)))
    shower[0, [right, below]] = 3, 1
    summary = summarise_voxels([shower], np.ones(2), geometry)
    assert summary.centre["eta"][0, 0] == pytest.approx(39 * 3 / 4)
    assert summary.centre["phi"][0, 0] == pytest.approx(-65 / 7 / 4)
    assert summary.centre["r"][0, 0] == pytest.approx((3 * 39 + 65 / 7) / 4)
    assert summary.cell_energy is not None
    assert summary.cell_energy[0, right] == pytest.approx(3 / 2 / 13**2)
    assert summary.cell_energy[0] @ geometry.area_of_voxel == pytest.approx(2)
    assert summary.pairs.neighbour_correlation.tolist() == [[0.0], [0.0]]
    shower[0, geometry.neighbours[0]] = 1
    shower[0, [right, below]] = 0
    again = summarise_voxels([shower], np.ones(2), geometry)
    assert again.pairs.neighbour_correlation.tolist() == [[0.5], [0.0]]


def test_no_observable_of_rings_has_columns_of_cells() -> None:
    geometry = unlike_cells()
    energy, voxels = showers(geometry, 5, seed=1)
    summary = summarise_voxels([voxels], energy, geometry)
    columns = {name: one.columns(summary).shape[1] for name, one in OBSERVABLES.items()}
    assert columns["layer_overlap"] == 1  # layer 1 has the cells of layer 0, layer 2 has not
    assert columns["neighbour_correlation"] == 1
    assert columns["layer_energy"] == columns["width_eta"] == 3
    assert {name for name, number in columns.items() if number == 0} == {
        "radius_90", "radius_95", "sector_kept", "alpha_correlation", "ring_hits",
        "centre_residual_eta", "centre_residual_phi", "centre_residual_outward",
    }  # fmt: skip


def test_views_of_a_shower_keep_its_energy() -> None:
    geometry = unlike_cells()
    _, voxels = showers(geometry, 1, seed=2)
    shower = voxels[0].astype(np.float64)
    side, edges = side_view(shower, geometry), y_edges(geometry)
    layers = [shower[place].sum() for place in geometry.layer_slices]
    assert (side @ np.diff(edges)).tolist() == pytest.approx(layers)
    assert front_view(shower, geometry) @ geometry.area_of_voxel[:25] == pytest.approx(layers[0])
    found = points(shower, geometry)
    assert found[:, 3].sum() == pytest.approx(shower.sum())
    assert found[0, 3] == shower.max()


def test_the_trees_see_where_energy_lies_and_whether_neighbours_know_of_each_other() -> None:
    geometry = focal()
    _, voxels = showers(geometry, 50, seed=3)
    shuffled = np.random.default_rng(0).permuted(voxels, axis=1)
    before, after = (voxel_features([one], geometry) for one in (voxels, shuffled))
    assert before.shape == (50, 2 * (8 + 4) + 4 + 1)
    assert before[:, :8].sum(1) == pytest.approx(voxels.sum(1), rel=1e-4)
    assert before[:, 8:12].sum(1) == pytest.approx(voxels.sum(1), rel=1e-4)
    assert before[:, 12:20].sum(1) == pytest.approx((voxels > 0).sum(1))
    assert before[:, -1].mean() > after[:, -1].mean() + 0.1
