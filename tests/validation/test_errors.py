"""Errors are what the scatter of independent samples, or a closed form, says."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.validation.figures.conditioning import response_calibration
from caloforge.validation.figures.physics import correlation_difference
from caloforge.validation.observables.histogram import Curve, fractions
from caloforge.validation.observables.summary import summarise_voxels, voxel_histogram
from caloforge.validation.plots.panels import _error_bars

PAIR = CylindricalGeometry("pair", (Layer(0, (0.0, 10.0), 1), Layer(1, (0.0, 10.0), 1)))


def correlated(rng, n, r):
    """Showers of two layers whose energies have the correlation r."""
    x = rng.normal(size=(n, 2))
    x[:, 1] = r * x[:, 0] + np.sqrt(1 - r**2) * x[:, 1]
    return summarise_voxels([(1000 + 50 * x).astype(np.float32)], np.full(n, 2e3), PAIR)


def test_the_jackknife_of_correlations_is_their_error():
    rng = np.random.default_rng(0)
    n = 1000
    found = [correlation_difference(correlated(rng, n, 0.0), correlated(rng, n, 0.6)) for _ in range(60)]
    # A correlation r of n values has the variance (1 - r^2)^2 / n.
    expected = np.sqrt((1 + (1 - 0.6**2) ** 2) / n)
    assert np.std([result.value for result in found]) == pytest.approx(expected, rel=0.3)
    # A jackknife of ten groups is known to 24 %, the mean of 60 to 3 %.
    assert np.mean([result.error for result in found]) == pytest.approx(expected, rel=0.15)


def test_chi2_over_bins_scatters_by_its_error():
    rng = np.random.default_rng(1)
    edges = np.geomspace(1000, 100_000, 9)

    def sample():
        energy = np.exp(rng.uniform(np.log(1000), np.log(100_000), 800))
        voxels = (energy * rng.normal(0.45, 0.03, 800))[:, None] * [1, 1]
        return summarise_voxels([voxels.astype(np.float32)], energy, PAIR)

    found = [response_calibration(sample(), sample(), edges) for _ in range(60)]
    # A chi^2 of 8 has the variance 16, over 8 bins 1/4.
    assert {f.error for f in found} == {0.5}
    assert {f.freedom for f in found} == {8}
    # The standard deviation of 60 values of this chi^2 is known to 13 %.
    assert np.std([f.value for f in found]) == pytest.approx(0.5, rel=0.4)
    assert np.mean([f.value for f in found]) == pytest.approx(1, abs=4 * 0.5 / np.sqrt(60))


def test_errors_of_profiles_are_standard_deviations_over_root_n(mesh, toy_showers, write):
    energy, voxels = toy_showers(mesh, 90, seed=1)
    summary = summarise_voxels([voxels[:50], voxels[50:]], energy, mesh)
    rings = voxels.reshape(90, 6, 4, 3).sum(axis=2, dtype=np.float64) / (np.pi * np.diff([0, 25, 100, 400]))
    np.testing.assert_allclose(summary.image.error, rings.std(axis=0) / np.sqrt(90), rtol=1e-4)
    np.testing.assert_allclose(summary.lateral.error, rings.sum(axis=1).std(axis=0) / np.sqrt(90), rtol=1e-4)
    edges = np.asarray([0.1, 10.0, 1e4])
    counts = np.stack([np.histogram(row, edges)[0] for row in voxels])
    found = voxel_histogram(write("showers", mesh, energy, voxels), edges)
    np.testing.assert_allclose(found.error, counts.std(axis=0) / np.sqrt(90), rtol=1e-9)


def test_fractions_scatter_by_their_errors():
    rng = np.random.default_rng(2)
    edges = np.linspace(0, 1, 11)
    found = [fractions(rng.random(500), edges) for _ in range(200)]
    scatter = np.std([curve.value for curve in found], axis=0).mean()
    # Poisson errors; those of fractions of 1/10 are 5 % smaller. The mean of ten scatters of 200 is known to 2 %.
    assert np.mean([curve.error for curve in found]) == pytest.approx(scatter, rel=0.12)


def test_error_bars_are_drawn_as_long_as_they_are():
    axes = Figure().add_subplot()
    _error_bars(axes, np.asarray([0.0, 1.0, 2.0]), Curve(np.asarray([5.0, np.nan]), np.asarray([0.5, 0.1])), "black")
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(x, [0.5, 0.5, 0.5])
    np.testing.assert_allclose(y, [4.5, 5.5, np.nan])
