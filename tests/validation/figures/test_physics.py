"""Figures of showers whose truth is known."""

import numpy as np
import pytest

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.validation.figures.physics import (
    correlation_difference,
    figures,
    layer_correlation,
    profile_shift,
    repeated_showers,
)
from caloforge.validation.observables.histogram import energy_edges
from caloforge.validation.observables.per_shower import containment_radius, empty_layers, hottest_voxel_share
from caloforge.validation.observables.summary import summarise_voxels
from caloforge.validation.registries import FIGURES

N, LAYERS = 6000, 20
LONG = CylindricalGeometry("long", tuple(Layer(i, (0.0, 10.0, 20.0), 1) for i in range(LAYERS)))


def showers(seed, stochastic=0.2, constant=0.01, response=0.9, alpha=4.0, beta=0.5):
    """Gamma-shaped showers of known response and resolution, 75 % of the energy in the inner ring."""
    rng = np.random.default_rng(seed)
    energy = 1000 * 10 ** rng.uniform(0, 2, N)
    t = np.arange(LAYERS) + 0.5
    profile = t ** (alpha - 1) * np.exp(-beta * t) * rng.gamma(20, 1 / 20, (N, LAYERS))
    total = energy * response * (1 + np.hypot(stochastic / np.sqrt(energy / 1000), constant) * rng.normal(size=N))
    layers = profile / profile.sum(axis=1)[:, None] * total[:, None]
    voxels = (layers[:, :, None] * [0.75, 0.25]).reshape(N, -1)
    return summarise_voxels([voxels.astype(np.float32)], energy, LONG)


def test_the_truth_is_found_within_the_errors():
    summary = showers(1)
    found = figures(summary, energy_edges(summary.incident_energy), seed=0)
    truth = {
        "mean_response": 0.9,
        "response_slope": 0.0,
        "stochastic_term": 0.2,
        "constant_term": 0.01,
        "shower_maximum_slope": 0.0,
        "r90": np.sqrt(100 + 0.6 * 300),
        "r95": np.sqrt(100 + 0.8 * 300),
    }
    for name, value in truth.items():
        assert found.value[name] == pytest.approx(value, abs=4 * found.error[name] + 1e-6), name
    # The bins are whole layers, whose shares differ a little from the density at their middle.
    assert found.value["gamma_alpha"] == pytest.approx(4, rel=0.03)
    assert found.value["gamma_beta"] == pytest.approx(0.5, rel=0.03)
    assert found.value["shower_maximum"] == pytest.approx(3 / 0.5 - 0.5, abs=0.15)
    assert set(found.value) == set(FIGURES)
    assert found.error["mean_response"] == pytest.approx(0.9 * 0.2 / np.sqrt(N) * 0.5, rel=0.5)


@pytest.mark.parametrize(
    ("change", "sees"),
    [
        ({"response": 0.93}, "mean_response"),
        ({"stochastic": 0.26}, "stochastic_term"),
        ({"stochastic": 0.26}, "mean_resolution"),
        ({"alpha": 4.3}, "gamma_alpha"),
        ({"alpha": 4.3}, "shower_maximum"),
    ],
)
def test_a_change_is_seen_in_its_figure(change, sees):
    reference, generated = showers(2), showers(3, **change)
    edges = energy_edges(reference.incident_energy)
    x, y = (figures(s, edges, seed=0) for s in (reference, generated))
    assert abs(x.value[sees] - y.value[sees]) > 4 * np.hypot(x.error[sees], y.error[sees])


def test_one_energy_and_one_layer_leave_out_what_they_do_not_define():
    flat = CylindricalGeometry("flat", (Layer(0, (0.0, 10.0), 4),))
    voxels = np.random.default_rng(0).gamma(4, 50, (100, 4)).astype(np.float32)
    summary = summarise_voxels([voxels], np.full(100, 1000.0), flat)
    found = figures(summary, energy_edges(summary.incident_energy), seed=0)
    defined = {name for name, value in found.value.items() if np.isfinite(value)}
    assert defined == {"mean_response", "mean_resolution", "r90", "r95"}
    assert correlation_difference(summary, summary).value == 0


def test_correlations_agree_with_numpy_and_their_difference_is_seen():
    x, y, z = showers(4), showers(5), showers(6)
    z.layer_energy[:, 3] = np.roll(z.layer_energy[:, 3], 1)  # another shower's
    np.testing.assert_allclose(layer_correlation(x), np.corrcoef(x.layer_energy, rowvar=False), atol=1e-12)
    floor, other = correlation_difference(x, y), correlation_difference(x, z)
    assert other.sigma_from(floor) > 3
    assert correlation_difference(x, x).value == 0


def test_a_scaled_layer_shifts_its_share_and_equal_samples_do_not():
    x, y = showers(7), showers(8)
    assert profile_shift(x, y).sigma < 3
    y.layer_energy[:, 6] *= 1.04
    shift = profile_shift(x, y)
    assert shift.sigma > 3
    assert shift.layer == 6
    assert profile_shift(x, x).value == 0


def test_repeated_showers_are_counted_whatever_their_energy():
    x = showers(9)
    assert repeated_showers(x).value == 0
    x.layer_energy[100:200] = 1.3 * x.layer_energy[:100]
    assert repeated_showers(x).value == 100 / N


def test_observables_of_single_showers():
    voxels = np.zeros((3, LONG.n_voxels), np.float32)
    voxels[0, :2] = 75, 25  # inner, outer ring of the first layer
    voxels[1, 0] = 10
    summary = summarise_voxels([voxels], np.full(3, 1e3), LONG)
    np.testing.assert_allclose(containment_radius(summary, 0.9), [np.sqrt(100 + 0.6 * 300), np.sqrt(90), 0], rtol=1e-6)
    np.testing.assert_allclose(hottest_voxel_share(summary), [0.75, 1, 0])
    np.testing.assert_allclose(empty_layers(summary), [0.95, 0.95, 1])
