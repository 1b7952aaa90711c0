import numpy as np
import pytest
from scipy.linalg import sqrtm

from caloforge.validation.metrics.frechet import challenge_fpd, fpd, frechet_distance

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_the_challenge_fpd_agrees_with_the_scheme_draw_for_draw(shift, oracle):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(3000, 3)), rng.normal(shift, 1, size=(2500, 3))
    value, error = oracle.fpd(x, y)
    result = challenge_fpd(x, y)
    assert result.value == pytest.approx(value, rel=1e-6)
    assert result.error == pytest.approx(error, rel=1e-5)


def test_the_challenge_fpd_of_constants():
    zeros, twos = np.zeros((500, 2)), np.full((500, 2), 2.0)
    assert challenge_fpd(twos, zeros).value == pytest.approx(2, rel=1e-6)
    # The bounded fit that jetnet uses stops 8e-6 short of it, and 3e-5 above 0.
    assert challenge_fpd(twos, zeros, normalise=False).value == pytest.approx(8, rel=2e-5)
    assert challenge_fpd(twos, twos).value == pytest.approx(0, abs=5e-5)


def test_constants():
    zeros, twos = np.zeros((500, 2)), np.full((500, 2), 2.0)
    assert fpd(twos, zeros).value == pytest.approx(2, rel=1e-6)
    assert fpd(twos, zeros, normalise=False).value == pytest.approx(8, rel=1e-6)


def test_equal_sets_are_at_no_distance():
    x = np.random.default_rng(0).normal(size=(2000, 3))
    result = fpd(x, x)
    assert result.value == pytest.approx(0, abs=3e-5)


def test_the_distance_agrees_with_the_matrix_root():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 6)), rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6))
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    m1, m2 = a.mean(axis=0), b.mean(axis=0)
    expected = ((m1 - m2) ** 2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
    assert frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-9)


def test_a_constant_feature_does_no_harm():
    rng = np.random.default_rng(2)
    c = np.diag([4.0, 0.0])
    assert frechet_distance(np.zeros(2), c, np.zeros(2), np.diag([1.0, 0.0])) == pytest.approx(1)
    x = np.hstack([rng.normal(size=(300, 2)), np.zeros((300, 1))])
    assert np.isfinite(fpd(x, x + 0.1).value)


def test_shifted_gaussians():
    # |m1 - m2|^2 = 3 * 0.5^2 without normalisation; the mean's error is sqrt(2/4000) per axis.
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4000, 3)), rng.normal(0.5, 1, size=(4000, 3))
    assert fpd(x, y, normalise=False).value == pytest.approx(0.75, abs=0.1)


def test_finite_samples_count_in_the_distance_of_the_challenge_fpd():
    """The published error alone would tell samples of one distribution apart."""
    rng = np.random.default_rng(2)
    published, whole = [], []
    for _ in range(8):
        x, floor, generated = rng.normal(size=(3, 400, 6))
        second, first = challenge_fpd(x, floor), challenge_fpd(x, generated)
        published.append(abs(first.value - second.value) / np.hypot(first.error, second.error))
        whole.append(abs(first.sigma_from(second)))
    assert max(whole) < 3
    assert np.median(published) > 10
