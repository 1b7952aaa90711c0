from __future__ import annotations

import numpy as np

from caloforge.models.agreement import TOLERANCE, relative_difference, that_must_agree

THRESHOLD = 0.5


def showers() -> np.ndarray:
    values = np.random.default_rng(0).uniform(1, 10, (3, 50)).astype(np.float32)
    values[:, ::2] = 0
    return values


def test_a_difference_is_a_share_of_its_own_shower() -> None:
    expected = showers()
    other = expected.copy()
    other[1, 3] += 0.02 * expected[1].sum()
    np.testing.assert_allclose(relative_difference(other, expected, THRESHOLD), [0, 0.02, 0], rtol=1e-4)


def test_a_voxel_at_the_threshold_may_be_zeroed_on_one_side_only() -> None:
    expected = showers()
    other = expected.copy()
    other[0, 0] = THRESHOLD * 1.01
    other[0, 1] -= THRESHOLD * 1.01  # which its layer gave
    assert not relative_difference(other, expected, THRESHOLD).any()


def test_a_voxel_far_above_the_threshold_may_not_be_zeroed() -> None:
    expected = showers()
    other = expected.copy()
    other[0, 0] = THRESHOLD * 3
    assert relative_difference(other, expected, THRESHOLD)[0] > TOLERANCE


def test_many_voxels_at_the_threshold_are_no_rounding() -> None:
    expected = showers()
    other = expected.copy()
    other[0, :6:2] = THRESHOLD * 1.01
    assert relative_difference(other, expected, THRESHOLD)[0] > TOLERANCE


def test_an_empty_shower_agrees_with_an_empty_shower_only() -> None:
    empty = np.zeros((1, 50), np.float32)
    assert not relative_difference(empty, empty, THRESHOLD).any()
    assert relative_difference(showers()[:1], empty, THRESHOLD)[0] > TOLERANCE


def test_as_many_showers_may_be_others_as_a_family_says() -> None:
    differences = np.array([0.3, 0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert that_must_agree(differences, 0.2).max() == 0
    assert that_must_agree(differences, 0.1).max() == 0.2
    assert that_must_agree(differences, 0.0).max() == 0.3
    differences[5] = np.nan
    assert np.isnan(that_must_agree(differences, 0.2).max()), "not a number is no shower of its kind"
