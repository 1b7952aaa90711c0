import numpy as np
import pytest

from caloforge.validation.metrics.classifier import ROC_POINTS, auc_error, classifier_auc


def test_equal_distributions_are_not_told_apart():
    rng = np.random.default_rng(0)
    result = classifier_auc(rng.normal(size=(400, 3)), rng.normal(size=(400, 3)))
    # The statistical error of an AUC with 400 of each is 0.02: 4 of them.
    assert result.value == pytest.approx(0.5, abs=0.08)
    assert result.error > 0.015


def test_a_shift_is_seen_and_the_curve_matches_its_area():
    rng = np.random.default_rng(1)
    # Two Gaussians at a distance of 2: the best possible area is Phi(2/sqrt(2)) = 0.921.
    result = classifier_auc(rng.normal(2, 1, size=(400, 1)), rng.normal(size=(400, 1)))
    assert 0.85 < result.value < 0.94
    roc = result.roc
    assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(result.value, abs=0.02)
    assert len(roc.fpr) <= ROC_POINTS
    assert np.isfinite(roc.thresholds).all()
    assert (np.diff(roc.thresholds) < 0).all()
    assert (roc.fpr[0], roc.tpr[0], roc.fpr[-1], roc.tpr[-1]) == (0, 0, 1, 1)


def test_showers_with_the_same_condition_do_not_teach_the_opposite():
    # Row i of both samples has the same energy, so a tree that knows it must not gain by that.
    energy = np.random.default_rng(2).random((400, 1))
    assert classifier_auc(energy, energy.copy()).value == pytest.approx(0.5, abs=0.01)


def test_error_of_an_uninformative_classifier():
    assert auc_error(0.5, 20_000) == pytest.approx(1 / np.sqrt(6 * 20_000), rel=0.01)
