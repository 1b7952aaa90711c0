"""Copies of training showers are found, near copies too, and held-out showers are not taken for them."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import mannwhitneyu

from caloforge.showers import open_showers
from caloforge.validation.figures import memorisation as module
from caloforge.validation.figures.memorisation import (
    memorisation,
    nearer_probability,
    nearest_distances,
    ratio_of_medians,
)
from caloforge.validation.metrics.prdc import log_voxels
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.observables.summary import summarise


@pytest.fixture(scope="module")
def showers(demo_showers):
    """1500 to train on, then 300, 300 and 300 held out."""
    demo = open_showers(demo_showers)
    return [demo.select(range(*ends)) for ends in ((0, 1500), (1500, 1800), (1800, 2100), (2100, 2400))]


def sample(showers):
    return Sample(showers, summarise(showers))


def test_distances_are_those_to_the_nearest(showers, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 170)
    training, held_out = showers[0].select(range(400)), showers[1].select(range(200))
    points = log_voxels(held_out.read())
    expected = cdist(points.astype(float), log_voxels(training.read()).astype(float)).min(axis=1)
    np.testing.assert_allclose(nearest_distances(points, training, threshold=0.0), expected, rtol=1e-5)
    copies = log_voxels(training.select(range(50)).read())
    assert nearest_distances(copies, training, threshold=0.0).max() == 0


def test_the_probability_is_that_of_mann_and_whitney():
    rng = np.random.default_rng(0)
    x, y = rng.gamma(2, 1, 80), rng.gamma(2.2, 1, 90)
    y[:10] = x[:10]
    assert nearer_probability(x, y).value == pytest.approx(mannwhitneyu(y, x).statistic / (80 * 90), rel=1e-12)
    assert nearer_probability(np.zeros(50), y).value == 1
    assert nearer_probability(np.zeros(50), y).error > 0
    assert ratio_of_medians(2 * y, y, seed=0).value == pytest.approx(2)
    # The median of 90 values of this shape is known to about 11 %, the ratio to 16 %.
    assert ratio_of_medians(y, y, seed=0).error == pytest.approx(0.16, rel=0.5)


def test_a_generator_that_copies_is_found_and_one_that_does_not_is_not(showers, write):
    training, reference, floor, honest = showers
    rng = np.random.default_rng(0)
    copied = training.select(np.sort(rng.permutation(1500)[:300]))
    blurred = copied.read() * rng.normal(1, 0.05, (300, training.geometry.n_voxels)).clip(0.5)
    conditions = copied.conditions.incident_energy
    half = np.concatenate([copied.read()[:150], honest.read()[150:]])
    generated = {
        "honest": honest,
        "copies": write("copies", training.geometry, conditions, copied.read()),
        "near": write("near", training.geometry, conditions, blurred),
        "half": write("half", training.geometry, conditions, half),
    }
    judged = {name: sample(s) for name, s in generated.items()}
    rows = memorisation(training, sample(reference), sample(floor), judged, seed=0)
    found = {name: {row.generator: row for row in rows if row.name == name} for name in (row.name for row in rows)}
    entry, ratio = found["memorisation"], found["training_distance"]
    sigma = {name: row.sigma for name, row in entry.items()}
    assert abs(sigma["honest"]) < 3
    assert min(sigma["copies"], sigma["near"], sigma["half"]) > 5
    assert {name: row.extra["copies"] for name, row in entry.items()} == {
        "honest": 0.0, "copies": 1.0, "near": 0.0, "half": 0.5,
    }  # fmt: skip
    assert entry["honest"].extra["reference_copies"] == 0
    assert ratio["copies"].value < 0.01
    assert ratio["near"].value < 0.7
    assert ratio["honest"].value == pytest.approx(1, abs=5 * ratio["honest"].error)
    assert (entry["honest"].n, entry["honest"].extra["n_training"]) == (300, 1500)


def test_few_showers_of_large_samples_are_asked(showers, monkeypatch):
    monkeypatch.setattr(module, "ASKED", 60)
    monkeypatch.setattr(module, "SEARCHED", 100)
    training, reference, floor, honest = (sample(s) for s in showers)
    found = memorisation(training.showers, reference, floor, {"honest": honest}, seed=0)[0]
    assert (found.n, found.extra["n_training"]) == (60, 100)
