import numpy as np
import pytest

from caloforge.showers import open_showers
from caloforge.validation.metrics import prdc as module
from caloforge.validation.metrics.prdc import log_voxels, prdc


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_agrees_with_the_definition_in_blocks(shift, oracle, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 60)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 6)), rng.normal(shift, 0.8, size=(150, 6))
    expected = oracle.prdc(x, y, 5)
    result = prdc(x, y)
    assert {name: r.value for name, r in result.items()} == pytest.approx(expected)
    assert all(r.error < 0.1 for r in result.values())


def test_agrees_with_the_definition_on_real_showers(demo_showers, oracle):
    voxels = open_showers(demo_showers).select(range(240)).read()
    plain = oracle.log_voxels(voxels)
    expected = oracle.prdc(plain[:120], plain[120:], 5)
    logs = log_voxels(voxels)
    assert {name: r.value for name, r in prdc(logs[:120], logs[120:]).items()} == pytest.approx(expected)


def test_distant_samples_and_copies_of_one_point():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 3))
    assert {r.value for r in prdc(x, x + 100).values()} == {0.0}
    collapsed = prdc(x, np.repeat(x[:1], 100, axis=0) + 1e-3)
    assert collapsed["precision"].value == 1
    assert collapsed["recall"].value < 0.05
    assert collapsed["density"].sigma_from(prdc(x, x)["density"]) != 0


def test_a_departure_either_way_is_significant():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 400, 20))  # in many dimensions the middle lies in many balls
    floor = prdc(x, y)["density"]
    assert prdc(x, 0.1 * y)["density"].sigma_from(floor) > 3
    assert prdc(x, 4 * y)["density"].sigma_from(floor) > 3


def test_too_few_points():
    with pytest.raises(ValueError, match="more than 5 points"):
        prdc(np.zeros((5, 2)), np.zeros((9, 2)))
