"""Weights are the ratio of two densities, calibrated, and say what they cost."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.showers import open_showers
from caloforge.validation.refinement import weights_sentence
from caloforge.validation.weights import LARGEST, Weights, classifier_weights, density_ratio, write_weights

pytestmark = pytest.mark.slow


def weights_of(values: list[float], clipped: int = 0) -> Weights:
    n = len(values)
    points = np.linspace(0.1, 0.9, 5)
    marks = np.arange(n) < clipped
    return Weights(np.array(values), np.full(n, 0.5), marks, 0.7, points, points + 0.02, points / 10, 0.1, 0.02)


def test_effective_sizes_and_what_unweighting_keeps() -> None:
    equal, uneven = weights_of([1.0] * 10), weights_of([10.0] + [0.0] * 9, clipped=1)
    assert (equal.effective, equal.kept) == (10, 1)
    assert (uneven.effective, uneven.kept) == (pytest.approx(1), pytest.approx(0.1))
    assert equal.calibration_error == pytest.approx(0.02)
    text = weights_sentence(uneven)
    assert "count as 1 showers" in text
    assert "1 were clipped at 20" in text
    assert "keep 10.0 %" in text
    assert "use the refined showers" not in text
    assert "use the refined showers" in weights_sentence(weights_of([100.0] + [0.0] * 99))


def test_weights_are_the_ratio_of_densities() -> None:
    """Two kinds of points that trees tell apart without fail, in other shares: the weights are known."""
    rng = np.random.default_rng(0)
    kinds = [np.arange(n) < n * share for n, share in ((1500, 3 / 4), (2400, 1 / 3))]
    full, fast = (np.stack([kind + 0.01 * rng.random(len(kind)), rng.random(len(kind))], 1) for kind in kinds)
    found = density_ratio(full, fast, seed=1)
    first = kinds[1]
    # Binomial errors of the shares are 3 %, of the trees' noise in the second column there is somewhat more.
    assert found.values[first].mean() == pytest.approx((3 / 4) / (1 / 3), rel=0.12)
    assert found.values[~first].mean() == pytest.approx((1 / 4) / (2 / 3), rel=0.12)
    assert found.values.mean() == pytest.approx(1, abs=0.05)
    assert found.separation_weighted < 0.2 * found.separation
    assert found.calibration_error < 0.05
    assert not found.clipped.any()
    np.testing.assert_allclose(found.values, found.probability / (1 - found.probability))


def test_what_has_no_like_is_clipped_and_told() -> None:
    rng = np.random.default_rng(1)
    full, fast = rng.normal(3, 1, (1000, 1)), rng.normal(0, 1, (1000, 1))
    found = density_ratio(full, fast, seed=1)
    assert found.clipped.any()
    assert found.values.max() == LARGEST
    assert found.effective < 0.2 * len(fast)


def test_weights_are_written_beside_the_showers(small_showers: Path, tmp_path: Path) -> None:
    write_weights(weights_of([2.0, 0.5], 1), open_showers(small_showers), tmp_path / "w.hdf5", attributes={"x": "y"})
    with h5py.File(tmp_path / "w.hdf5") as file:
        assert file["weights"][:].tolist() == [2.0, 0.5]
        assert file["clipped"][:].tolist() == [True, False]
        assert file.attrs["effective"] == pytest.approx(2.5**2 / 4.25)
        assert (file.attrs["file"], file.attrs["x"]) == (small_showers.name, "y")


def test_too_few_showers_are_refused(small_showers: Path) -> None:
    showers = open_showers(small_showers)
    with pytest.raises(InputError, match="99 showers; weights need 100 or more"):
        classifier_weights(showers, showers.select(range(99)), threshold=0.1)
