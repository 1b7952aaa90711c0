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
    assert all(0 < r.error < 0.15 for r in result.values())


def showers(rng, energy):
    """Points with hubs: faint showers lie near the middle, and are neighbours of most others."""
    return rng.normal(size=(len(energy), 30)) * (energy * rng.lognormal(0, 0.2, len(energy)))[:, None]


def energies(rng, n=300):
    return 100 ** rng.random(n)


def test_a_generator_that_shares_the_energies_of_the_reference_is_no_further_than_the_floor():
    rng = np.random.default_rng(7)
    sigmas = {"same": [], "too narrow": [], "too wide": []}
    for _ in range(15):
        energy = energies(rng)
        second, reference = showers(rng, energies(rng)), showers(rng, energy)
        floor = prdc(second, reference)
        for name, scale in (("same", 1.0), ("too narrow", 0.7), ("too wide", 1.4)):
            found = prdc(second, scale * showers(rng, energy))
            sigmas[name].append(max(found[key].sigma_from(floor[key]) for key in found))
    assert max(sigmas["same"]) < 3  # of 60; with errors of independent points 3.5
    assert np.median(sigmas["too narrow"]) > 3
    assert np.median(sigmas["too wide"]) > 3


def test_the_error_is_what_leaving_groups_out_changes(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 60)
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(150, 4)), rng.normal(size=(130, 4))
    without = [prdc(x, np.delete(y, np.s_[group::20], axis=0)) for group in range(20)]
    found = prdc(x, y)
    for name in ("recall", "coverage"):
        values = [one[name].value for one in without]
        assert found[name].error == pytest.approx(np.sqrt(19 * np.var(values))), name


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
