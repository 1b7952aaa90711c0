import numpy as np
import pytest

from caloforge.validation.metrics.separation import separation_of_histograms, separation_power
from caloforge.validation.observables.histogram import N_BINS


def test_closed_form():
    h1, h2 = np.asarray([0.5, 0.5, 0.0]), np.asarray([0.25, 0.25, 0.5])
    value, _ = separation_of_histograms(h1, h2, h1 / 100, h2 / 100)
    assert value == pytest.approx((2 * 0.25**2 / 0.75 + 0.5) / 2)


def test_equal_samples_and_disjoint_samples():
    x = np.random.default_rng(0).normal(size=1000)
    assert separation_power(x, x).value == 0
    assert separation_power(x, x + 100).value == pytest.approx(1, abs=0.005)  # 0.1 % of x lie above its edges too
    assert separation_power(np.zeros(100), np.zeros(100)).value == 0


def test_the_floor_is_occupied_bins_over_twice_n():
    # Uniform values fill all 50 bins and the two outer ones hardly: the sum over bins of a chi^2
    # with 50 degrees of freedom. The mean of 40 repetitions is known to 20 %/sqrt(40) = 3 %.
    rng = np.random.default_rng(1)
    n = 4000
    results = [separation_power(rng.random(n), rng.random(n)) for _ in range(40)]
    values = [result.value for result in results]
    assert np.mean(values) == pytest.approx((N_BINS + 1) / (2 * n), rel=0.12)
    assert results[0].error == pytest.approx(np.std(values), rel=0.4)


def test_the_error_covers_the_scatter_of_different_samples():
    rng = np.random.default_rng(2)
    results = [separation_power(rng.normal(size=2000), rng.normal(0.3, 1, size=2000)) for _ in range(40)]
    scatter = np.std([result.value for result in results])
    assert np.mean([result.error for result in results]) == pytest.approx(scatter, rel=0.35)


def test_columns_are_averaged():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(500, 2)), rng.normal(0.5, 1, size=(500, 2))
    parts = [separation_power(x[:, i], y[:, i]).value for i in range(2)]
    result = separation_power(x, y)
    assert result.parts == pytest.approx(parts)
    assert result.value == pytest.approx(np.mean(parts))
