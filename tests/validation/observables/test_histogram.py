import numpy as np
import pytest

from caloforge.validation.observables.histogram import bin_edges, histogram


def test_no_value_is_lost():
    rng = np.random.default_rng(0)
    values = rng.normal(size=5000)
    contents = histogram(np.append(values, [-99.0, 99.0]), bin_edges(values))
    assert contents.sum() == pytest.approx(1)
    assert contents[0] > 0
    assert contents[-1] > 0


def test_zeros_of_a_logarithmic_observable_lie_below_its_edges():
    rng = np.random.default_rng(0)
    values = np.where(rng.random(1000) < 0.3, 0.0, rng.lognormal(size=1000))
    edges = bin_edges(values, log=True)
    assert (edges > 0).all()
    assert histogram(values, edges)[0] == pytest.approx((values < edges[0]).mean())


def test_counts_fall_into_bins_of_whole_numbers():
    counts = np.random.default_rng(0).poisson(200, size=4000).astype(float)
    width = np.diff(bin_edges(counts, n_bins=40))
    assert width == pytest.approx(round(width[0]))
    assert len(width) <= 41


@pytest.mark.parametrize("value", [0.0, 3.5])
@pytest.mark.parametrize("log", [False, True])
def test_equal_values_have_one_bin(value, log):
    values = np.full(100, value)
    edges = bin_edges(values, log=log)
    assert len(edges) == 2
    assert histogram(values, edges).max() == 1
