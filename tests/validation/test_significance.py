"""Distances are the one-sided numbers of standard deviations that are as improbable as what was found."""

import numpy as np
import pytest
from scipy.stats import norm

from caloforge.validation.figures.conditioning import _distance
from caloforge.validation.figures.physics import Figures
from caloforge.validation.figures.table import _figure
from caloforge.validation.metrics.result import Result
from caloforge.validation.significance import LARGEST, either_way


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0, 6.0])
def test_either_way_has_both_tails(sigma):
    # 3 standard deviations either way are as improbable as 2.78 in one direction.
    assert norm.sf(either_way(sigma)) == pytest.approx(2 * norm.sf(sigma), rel=1e-9)
    assert either_way(-sigma) == either_way(sigma)
    assert either_way(-1e9) == pytest.approx(LARGEST, abs=0.1)


def test_a_two_sided_metric_is_as_bad_below_its_floor_as_above():
    floor = Result(0.9, 0.03, 100, two_sided=True)
    low, high = (Result(value, 0.04, 100, two_sided=True).sigma_from(floor) for value in (0.7, 1.1))
    assert low == pytest.approx(high)
    assert norm.sf(low) == pytest.approx(2 * norm.sf(0.2 / 0.05), rel=1e-6)
    below = Result(0.7, 0.04, 100).sigma_from(Result(0.9, 0.03, 100))
    assert below == pytest.approx(-4), "of any other metric smaller is better"


@pytest.mark.parametrize("value", [0.88, 0.92])
def test_a_physics_figure_is_as_far_below_geant4_as_above(value):
    found = _figure(Figures({"r": value}, {"r": 0.004}), Figures({"r": 0.9}, {"r": 0.003}), "r")
    assert norm.sf(found.sigma) == pytest.approx(2 * norm.sf(0.02 / 0.005), rel=1e-6)
    assert found.ratio == pytest.approx(value / 0.9)
    assert found.ratio_error == pytest.approx(np.hypot(0.004, value / 0.9 * 0.003) / 0.9)


def test_a_correlation_is_as_far_below_geant4s_as_above():
    # Of Fisher's variable z = atanh(r), whose error is that of r over 1 - r^2.
    z = np.arctanh(0.6)
    own = Result(0.6, 0.03 * (1 - 0.6**2), 100)
    for off in (-0.2, 0.2):
        r = float(np.tanh(z + off))
        found = _distance(Result(r, 0.04 * (1 - r**2), 100), own)
        assert norm.sf(found.sigma) == pytest.approx(2 * norm.sf(0.2 / 0.05), rel=1e-6)
