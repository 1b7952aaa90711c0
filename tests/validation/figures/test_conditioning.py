"""A generator that does not follow the incident energy is found; Geant4 follows it."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from caloforge.showers import open_showers
from caloforge.validation.figures.conditioning import conditioning, energy_correlation, response_calibration
from caloforge.validation.observables.histogram import energy_edges
from caloforge.validation.observables.summary import summarise, summarise_voxels
from caloforge.validation.significance import LARGEST

N = 800


@pytest.fixture(scope="module")
def summaries(demo_showers):
    demo = open_showers(demo_showers)
    return [summarise(demo.select(range(i * N, (i + 1) * N))) for i in range(3)]


def with_energies(summary, total):
    """A sample of other total energies, all of them in its first layer."""
    voxels = np.zeros((len(summary), summary.geometry.n_voxels), np.float32)
    voxels[:, 0] = total
    return summarise_voxels([voxels], summary.incident_energy, summary.geometry)


def test_correlations_agree_with_scipy_and_their_errors_with_other_samples(demo_showers, summaries):
    for ranks, function in ((False, pearsonr), (True, spearmanr)):
        x = summaries[0]
        found = energy_correlation(x, ranks=ranks, seed=0)
        assert found.value == pytest.approx(function(x.incident_energy, x.total_energy).statistic, rel=1e-9)
    demo = open_showers(demo_showers)
    parts = [summarise(demo.select(range(i * 400, (i + 1) * 400))) for i in range(20)]
    several = [energy_correlation(part, ranks=False, seed=0) for part in parts]
    # The scatter of 20 values is known to 16 %.
    scatter = np.std([result.value for result in several])
    assert np.mean([result.error for result in several]) == pytest.approx(scatter, rel=0.5)


def test_defects_of_the_condition_are_named_and_geant4_is_not(summaries):
    reference, floor, third = summaries
    rng = np.random.default_rng(0)
    energy, total = third.incident_energy, third.total_energy
    samples = {
        "geant4": third,
        "shuffled": with_energies(third, rng.permutation(total)),
        "constant": with_energies(third, np.full(N, 5e3)),
        "wrong at high energy": with_energies(third, total * np.where(energy > np.quantile(energy, 0.8), 1.03, 1)),
        "empty": with_energies(third, np.zeros(N)),
    }
    rows = list(conditioning(reference, floor, samples, energy_edges(reference.incident_energy), seed=0))
    sigma = {name: {row.name: row.sigma for row in rows if row.generator == name} for name in samples}
    table = {(row.generator, row.name): row for row in rows}
    assert max(sigma["geant4"].values()) < 3
    assert max(row.floor_sigma for row in rows) < 3
    assert min(sigma["shuffled"].values()) > 5
    assert min(sigma["constant"].values()) == LARGEST
    assert min(sigma["empty"].values()) == LARGEST
    assert table["constant", "energy_correlation"].value is None
    assert sigma["wrong at high energy"]["response_calibration"] > 5
    worst = table["wrong at high energy", "response_calibration"]
    assert float(worst.worst.split()[1]) * 1000 > np.quantile(energy, 0.7)
    assert worst.phrase == f"response in bins of incident energy {worst.worst}"
    assert len(worst.parts.value) == len(worst.parts.where) == worst.freedom == 8


def test_equal_samples_have_a_chi2_of_one_for_each_bin(demo_showers):
    demo = open_showers(demo_showers)
    parts = [summarise(demo.select(range(i * 400, (i + 1) * 400))) for i in range(20)]
    edges = energy_edges(parts[0].incident_energy)
    found = [response_calibration(x, y, edges) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    # 10 values of error sqrt(2/8) each.
    assert np.mean([f.value for f in found]) == pytest.approx(1, abs=4 * 0.5 / np.sqrt(10))
    assert max(f.sigma for f in found) < 3.5


def test_one_incident_energy_has_no_correlation(summaries):
    reference = summaries[0]
    fixed = summarise_voxels(
        [np.random.default_rng(0).gamma(5, 1, (100, reference.geometry.n_voxels)).astype(np.float32)],
        np.full(100, 1e4),
        reference.geometry,
    )
    [row] = conditioning(fixed, fixed, {"g": fixed}, energy_edges(fixed.incident_energy), seed=0)
    assert row.name == "response_calibration"
    assert row.value == 0
    few = summarise_voxels([np.ones((5, reference.geometry.n_voxels), np.float32)], np.full(5, 1e4), reference.geometry)
    assert response_calibration(few, few, energy_edges(few.incident_energy)).sigma == 0
