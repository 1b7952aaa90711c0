"""The quick protocol's networks: blind where there is nothing to see, not where there is."""

import numpy as np
import pytest
import torch

from caloforge.validation.metrics.voxel_network import network_auc


def test_equal_samples_give_a_half_and_a_shift_is_seen():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 500, 20))
    same = network_auc(x, y, seed=1)
    assert same.value == pytest.approx(0.5, abs=4 * same.error)
    assert same.error > 0.015
    assert network_auc(x, y + 0.5, seed=1).sigma_from(same) > 10


def test_what_no_single_feature_shows_is_seen():
    """The same margins, another correlation."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 2000, 6))
    y[:, 1] = 0.8 * y[:, 0] + 0.6 * y[:, 1]
    assert network_auc(x, y, seed=1).value > 0.65


def test_the_seed_decides_and_others_random_numbers_are_left_alone():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 60, 3))
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert network_auc(x, y, seed=3) == network_auc(x, y, seed=3)
    assert torch.equal(torch.rand(1), expected)
