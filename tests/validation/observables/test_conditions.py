"""Particles and angles as what showers are binned and judged by."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from caloforge.validation.checks import condition_warnings
from caloforge.validation.figures.key_figures import in_bins
from caloforge.validation.metrics.classifier import classifier_auc
from caloforge.validation.observables.conditions import (
    CONDITIONS,
    code_edges,
    inside,
    present,
    ranges,
    with_shared_conditions,
)
from caloforge.validation.observables.features import condition_features, high_level_features
from caloforge.validation.observables.summary import summarise_voxels
from caloforge.validation.plots.condition_plots import key_figure
from caloforge.validation.plots.panels import Samples

pytestmark = pytest.mark.slow

N = 900
CODES = np.array([-211, 11, 22])


def sample(mesh, toy_showers, seed, *, heeds=True):
    """Showers whose response depends on theta and on the particle, if they heed them."""
    energy, voxels = toy_showers(mesh, N, seed)
    rng = np.random.default_rng(seed)
    theta, phi, particle = rng.uniform(1, 2, N), rng.uniform(-3, 3, N), rng.choice(CODES, N)
    factor = (0.2 + 0.8 * theta) * np.where(particle == -211, 0.3, 1)
    voxels = voxels * (factor if heeds else rng.permutation(factor))[:, None].astype(np.float32)
    return summarise_voxels([voxels], energy, mesh, theta=theta, phi=phi, particle=particle)


def test_each_particle_has_a_bin_of_its_own(mesh, toy_showers):
    summary = sample(mesh, toy_showers, 1)
    edges = present(summary, [summary])["particle"]
    assert edges.tolist() == code_edges(summary.particle).tolist() == [-211.5, 10.5, 21.5, 22.5]
    where = CONDITIONS["particle"]
    assert where.bins(edges) == ("particle pi-", "particle e-", "particle gamma")
    numbers = [int(inside(summary, "particle", low, high).sum()) for _, low, high in ranges(summary, "particle")]
    assert numbers == [int((summary.particle == code).sum()) for code in CODES]
    figure = key_figure(Samples(summary, {"other": summary}), "response", "particle", edges)
    labels = [text.get_text() for text in figure.axes[-1].get_xticklabels()]
    assert labels == ["pi-", "e-", "gamma"]


def test_who_does_not_heed_a_condition_is_seen_in_its_bins_and_by_the_classifier(mesh, toy_showers):
    truth, floor, good, bad = (sample(mesh, toy_showers, seed, heeds=seed < 4) for seed in (1, 2, 3, 4))
    found = {(row.name, row.generator): row for row in in_bins(truth, floor, {"good": good, "bad": bad})}
    for condition in ("theta", "particle"):
        assert found[f"response_{condition}", "good"].sigma < 3
        assert found[f"response_{condition}", "bad"].sigma > 5
    assert found["response_phi", "bad"].sigma < 3
    x, y, z = (high_level_features(one) for one in (truth, good, bad))
    assert classifier_auc(x, y, seed=1).value < 0.58  # of 900 showers each, an error of 0.015
    assert classifier_auc(x, z, seed=1).value > 0.62
    blind = -condition_features(truth).shape[1]
    assert classifier_auc(x[:, :blind], z[:, :blind], seed=1).value < 0.58


def test_what_a_sample_lacks_is_judged_of_none(mesh, toy_showers):
    truth, other = sample(mesh, toy_showers, 1), sample(mesh, toy_showers, 2)
    energy, voxels = toy_showers(mesh, N, 3)
    less = summarise_voxels([voxels], energy, mesh, theta=np.linspace(1, 2, N))
    shared = with_shared_conditions([truth, other, less])
    assert [(one.theta is None, one.phi is None, one.particle is None) for one in shared] == [(False, True, True)] * 3
    assert {high_level_features(one).shape for one in shared} == {high_level_features(less).shape}
    warnings = condition_warnings(truth, {"less": less})
    assert len(warnings) == 2
    assert warnings[0].startswith("less: has no phi, which the reference has")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"incident_energy": 1.5}, "incident energies are distributed differently"),
        ({"theta": 1.1}, "theta is distributed differently"),
        ({"phi": 0.5}, "phi is distributed differently"),
        ({"particle": -1}, "particles are distributed differently"),
    ],
)
def test_other_conditions_than_the_references_are_said(mesh, toy_showers, changes, text):
    truth, same, other = (sample(mesh, toy_showers, seed) for seed in (1, 2, 3))
    assert condition_warnings(truth, {"same": same}) == []
    for name, factor in changes.items():
        values = getattr(other, name)
        values *= factor
    warnings = condition_warnings(truth, {"other": other})
    assert len(warnings) == 1
    assert text in warnings[0]


def test_features_of_conditions_are_numbers_of_order_one(mesh, toy_showers):
    summary = sample(mesh, toy_showers, 1)
    features = condition_features(summary)
    assert features.shape == (N, 4)
    assert np.abs(features).max() < 10
    assert spearmanr(features[:, 3], summary.particle).statistic == pytest.approx(1)
