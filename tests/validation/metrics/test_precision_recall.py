import numpy as np
import pytest

from caloforge.validation.metrics.precision_recall import curve, precision_recall


def test_the_curve_in_closed_form():
    p = np.asarray([0.25, 0.25, 0.5, 0.0])
    assert curve(p, p).area == pytest.approx(1, abs=1e-9)
    assert curve(p, p[::-1][[0, 0, 0, 3]]).area == 0  # nothing in common
    # Half of the reference, all of it invented nowhere: precision 1 up to recall 1/2, and the other way round.
    half = np.asarray([0.5, 0.5, 0.0, 0.0])
    whole = np.asarray([0.25, 0.25, 0.25, 0.25])
    found = curve(whole, half)
    assert found.precision.max() == pytest.approx(1)
    assert found.recall.max() == pytest.approx(0.5)
    assert found.area == pytest.approx(0.5, abs=1e-3)
    assert curve(half, whole).area == pytest.approx(0.5, abs=1e-3)
    # On the rectangle the best point is its corner (1, 1/2): F_8 = 65/2 / (64 + 1/2).
    assert found.f_score(8) == pytest.approx(32.5 / 64.5, abs=1e-3)
    assert found.f_score(1 / 8) == pytest.approx((65 / 64 / 2) / (1 / 64 + 0.5), abs=1e-3)


def test_many_distributions_at_once():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(20), size=(2, 3))
    assert curve(p, q).area == pytest.approx([float(curve(*pair).area) for pair in zip(p, q, strict=True)])


def test_a_lost_mode_is_low_recall_and_an_invented_one_low_precision():
    rng = np.random.default_rng(1)
    modes = rng.normal(size=(4, 6)) * 10

    def draw(*which):
        return modes[rng.choice(which, 1000)] + rng.normal(size=(1000, 6))

    equal = precision_recall(draw(0, 1, 2), draw(0, 1, 2), seed=0)
    lost = precision_recall(draw(0, 1, 2), draw(0, 1), seed=0)
    invented = precision_recall(draw(0, 1, 2), draw(0, 1, 2, 3), seed=0)
    assert equal["auc"].value > 0.95
    assert lost["f8"].value == pytest.approx(2 / 3, abs=0.05)
    assert lost["f1_8"].value > 0.95
    assert invented["f1_8"].value == pytest.approx(3 / 4, abs=0.05)
    assert invented["f8"].value > 0.95
    for found in (lost, invented):
        assert found["auc"].sigma_from(equal["auc"]) > 5


def test_the_error_is_the_scatter_of_other_samples():
    rng = np.random.default_rng(2)
    found = [precision_recall(*rng.normal(size=(2, 300, 5)), seed=i)["auc"] for i in range(15)]
    scatter = np.std([result.value for result in found])
    # The scatter of 15 values is known to 18 %; a bootstrap of equal samples overestimates it.
    assert 0.7 < np.mean([result.error for result in found]) / scatter < 2


def test_the_same_seed_gives_the_same_value_and_equal_points_do_no_harm():
    x, y = np.random.default_rng(3).normal(size=(2, 100, 3))
    assert precision_recall(x, y, seed=1) == precision_recall(x, y, seed=1)
    assert precision_recall(np.zeros((60, 2)), np.zeros((60, 2)), seed=0)["auc"].value == pytest.approx(1)
