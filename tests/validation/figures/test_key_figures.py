import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.validation.figures.key_figures import figures_in_bins, in_bins
from caloforge.validation.observables.conditions import inside, present, ranges
from caloforge.validation.observables.histogram import mean_in_bins
from caloforge.validation.observables.summary import summarise_voxels


def sample(mesh, toy_showers, seed, n=900, **angles):
    energy, voxels = toy_showers(mesh, n, seed)
    return summarise_voxels([voxels], energy, mesh, **angles)


def test_means_and_errors_in_bins_are_numpys():
    rng = np.random.default_rng(0)
    where, values = rng.uniform(0, 2, 300), rng.normal(size=300)
    found = mean_in_bins(where, values, np.asarray([0.0, 1.0, 2.0]))
    for i, rows in enumerate((where < 1, where >= 1)):
        assert found.value[i] == pytest.approx(values[rows].mean())
        assert found.error[i] == pytest.approx(values[rows].std(ddof=1) / np.sqrt(rows.sum()))
    assert np.isnan(mean_in_bins(where[:9], values[:9], np.asarray([0.0, 2.0])).value).all()


def test_equal_samples_agree_in_all_bins_and_a_change_at_low_energy_is_seen(mesh, toy_showers):
    x, y, z = (sample(mesh, toy_showers, seed) for seed in (1, 2, 3))
    low = z.incident_energy < 2000
    z.layer_energy[low] *= 1.02
    figures = {row.name: row for row in in_bins(x, y, {"z": z})}
    assert all(figure.floor_sigma < 3 for figure in figures.values())
    assert figures["response_energy"].sigma > 5
    assert figures["radius_90_energy"].sigma < 3
    assert figures["response_energy"].freedom == 8


def test_a_wider_response_is_seen_as_resolution(mesh, toy_showers):
    x, y, z = (sample(mesh, toy_showers, seed) for seed in (4, 5, 6))
    z.layer_energy[:] *= np.random.default_rng(0).normal(1, 0.03, (len(z), 1))
    figures = {row.name: row for row in in_bins(x, y, {"z": z})}
    assert figures["resolution_energy"].sigma > 5
    assert figures["response_energy"].sigma < 3
    assert figures["resolution_energy"].parts.reference == pytest.approx([0.033] * 8, rel=0.35)


def test_angles_are_binned_in_where_all_samples_have_them(mesh, toy_showers):
    theta = np.linspace(1, 2, 900)
    with_angle, without = sample(mesh, toy_showers, 7, theta=theta), sample(mesh, toy_showers, 8)
    assert set(present(with_angle, [with_angle])) == {"energy", "theta"}
    assert set(present(with_angle, [without])) == {"energy"}
    constant = sample(mesh, toy_showers, 9, theta=np.full(900, 1.5))
    assert set(present(constant, [constant])) == {"energy"}
    found = {row.name: row for row in in_bins(with_angle, with_angle, {"same": with_angle})}["response_theta"]
    assert found.parts.unit == "rad"
    assert found.parts.edges[0] == 1
    assert found.value == 0


def test_ranges_hold_equally_many_showers(mesh, toy_showers):
    summary = sample(mesh, toy_showers, 1)
    counts = [inside(summary, "energy", low, high).sum() for _, low, high in ranges(summary, "energy")]
    assert counts == [300, 300, 300]


def test_one_layer_has_no_depth():
    flat = CylindricalGeometry("flat", (Layer(0, (0.0, 5.0, 10.0), 4),))
    summary = summarise_voxels([np.ones((20, 8), np.float32)], np.full(20, 1e3), flat)
    assert set(figures_in_bins(summary)) == {
        "response", "resolution", "radius_90", "hottest_voxel_share", "number_of_voxels",
    }  # fmt: skip
