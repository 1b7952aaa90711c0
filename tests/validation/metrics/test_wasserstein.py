import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from caloforge.validation.metrics.wasserstein import wasserstein, wasserstein_of_profiles
from caloforge.validation.observables.summary import Profile


def test_agrees_with_scipy_on_shifted_gaussians():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 2, (800, 3)), rng.normal(0.5, 2, (800, 3))
    result = wasserstein(x, y)
    expected = [wasserstein_distance(x[:, i], y[:, i]) for i in range(3)]
    assert result.absolute == pytest.approx(np.mean(expected), rel=1e-12)
    assert result.parts == pytest.approx(np.asarray(expected) / x.std(axis=0), rel=1e-12)


def test_the_error_is_the_scatter_for_a_shift():
    rng = np.random.default_rng(1)
    results = [wasserstein(rng.normal(size=1000), rng.normal(1, 1, size=1000)) for _ in range(60)]
    # A pure shift: the distance is the difference of the means, whose error is sqrt(2/N).
    assert results[0].error == pytest.approx(np.sqrt(2 / 1000), rel=0.15)
    assert np.std([result.value for result in results]) == pytest.approx(np.sqrt(2 / 1000), rel=0.3)


def test_the_error_of_samples_that_are_nearly_all_alike_is_their_scatter():
    """As the sparsity of a last layer: one value, but for a few showers."""
    rng = np.random.default_rng(4)
    results = [wasserstein(rng.binomial(1, 0.5, 400).astype(float), np.ones(400)) for _ in range(80)]
    distances = [result.absolute for result in results]
    assert np.mean(distances) == pytest.approx(0.5, rel=0.02)
    assert results[0].error * 0.5 == pytest.approx(np.sqrt(0.25 / 400), rel=0.1)
    assert np.std(distances) == pytest.approx(np.sqrt(0.25 / 400), rel=0.25)


def test_equal_samples_and_constants():
    x = np.random.default_rng(2).normal(size=100)
    assert wasserstein(x, x[::-1].copy()).value == 0
    assert wasserstein(np.zeros(10), np.zeros(10)).value == 0


def test_refuses_samples_of_unlike_length():
    with pytest.raises(ValueError, match="same shape"):
        wasserstein(np.zeros(3), np.zeros(4))


def test_spectra_agree_with_scipy():
    rng = np.random.default_rng(3)
    edges = np.logspace(-2, 2, 21)
    h1, h2 = rng.random(20), rng.random(20)
    result = wasserstein_of_profiles(Profile(edges, h1, h1 / 10), Profile(edges, h2, h2 / 10), n=100)
    centre = np.log10(edges[:-1] * edges[1:]) / 2
    assert result.absolute == pytest.approx(wasserstein_distance(centre, centre, h1, h2), rel=1e-9)
