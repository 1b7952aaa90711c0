"""The protocol of CaloChallenge; its figures are compared with the definitions in test_oracle.py."""

from dataclasses import replace

import numpy as np
import pytest

from caloforge.cli.showers import validate as command
from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.validation.metrics.challenge import SPLITS, THRESHOLDS, dataset_of, separations
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.sample import Sample
from caloforge.validation.metrics.training import Training
from caloforge.validation.observables.summary import summarise
from caloforge.validation.registries import PROTOCOLS
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow

N = 150


@pytest.fixture
def photons(toy_showers, write):
    """Return a function that opens showers on the mesh of dataset 1 photons, at its incident energies."""
    geometry = load_geometry("dataset_1_photons")

    def make(name, seed):
        energy, voxels = toy_showers(geometry, N, seed)
        voxels *= (2.0 ** (8 + np.arange(N) % 15) / energy)[:, None].astype(np.float32)
        voxels[:, -5:] += np.random.default_rng(seed).exponential(5, (N, 5))  # far out, where no toy reaches
        voxels[voxels.sum(axis=1) < 300, :5] = 0.5  # faint voxels, which the threshold of 1 MeV removes
        return write(name, geometry, 2.0 ** (8 + np.arange(N) % 15), voxels)

    return make


def test_the_floor_of_a_published_binning_is_its_occupied_bins_over_twice_n():
    from caloforge.validation.metrics.challenge import _in_range

    edges = np.linspace(0.5, 1.5, 101)
    rng = np.random.default_rng(0)
    values = [_in_range(*rng.uniform(0.5, 1.5, (2, 2000)), edges)[0] for _ in range(40)]
    # The mean of 40 sums over 100 bins: known to sqrt(2/100/40) = 2.2 %.
    assert np.mean(values) == pytest.approx(100 / (2 * 2000), rel=0.08)


def test_a_layer_that_is_empty_in_the_reference(photons):
    reference, generated = photons("reference", 3), photons("generated", 4)
    x, y = (Sample(s, summarise(s, threshold=1.0)) for s in (reference, generated))
    x.summary.layer_energy[:, 3] = 0
    both = separations(x, x)["layer_energy"]
    assert both.value == 0
    assert separations(x, y)["layer_energy"].parts[3] == pytest.approx(0.5)


def test_the_challenge_protocol_from_end_to_end(photons, tmp_path, monkeypatch):
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    reference, second, generated = (photons(name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3)))
    metrics = validate(reference, {"c": generated}, tmp_path / "out", floor=second, protocol="challenge-no-networks")
    assert metrics.protocol.name == "challenge-no-networks"
    assert metrics.threshold_mev == 1.0
    found = metrics.table("headline")
    assert {"auc", "fpd", "kpd", "precision", "recall", "density", "coverage"} <= set(found)
    assert len(metrics.row("c", "separation", "response_by_energy").parts.value) == 15
    assert metrics.row("c", "separation", "width_phi").parts.where == ("layer 1", "layer 2")
    report = (tmp_path / "out" / "report.html").read_text()
    for text in ("KPD", "Coverage", "CaloChallenge&#39;s thresholds", "Total response at each incident energy"):
        assert text in report


def test_the_mesh_decides_not_the_name(mesh, write, toy_showers, tmp_path):
    for name in THRESHOLDS:
        assert dataset_of(load_geometry(name)) == name
    reference = write("reference", mesh, *toy_showers(mesh, 120, 1))
    with pytest.raises(InputError, match="'toy' is none of CaloChallenge's"):
        validate(reference, {"g": reference}, tmp_path / "out", protocol="challenge-no-networks")
    with pytest.raises(InputError, match="unknown protocol 'chalenge'; did you mean 'challenge'"):
        validate(reference, {"g": reference}, tmp_path / "out", protocol="chalenge")


def test_the_command_line_knows_all_protocols():
    option = next(option for option in command.params if option.name == "protocol")
    assert set(option.type.choices) == set(PROTOCOLS)


@pytest.mark.parametrize("protocol", ["challenge", "challenge-ten-trainings", "challenge-no-networks"])
def test_which_networks_a_protocol_trains(protocol, photons, monkeypatch):
    calls = []

    def record(*_, training, seed):
        calls.append((training, seed))
        return {"auc_high": Result(0.5, 0.1, n=N)}

    # The real ones take minutes, and have tests of their own.
    monkeypatch.setattr("caloforge.validation.metrics.challenge_classifiers.classifier_results", record)
    x, y = (Sample(s, summarise(s, threshold=1.0)) for s in (photons("a", 1), photons("b", 2)))
    found = PROTOCOLS.get(protocol).compare(x, y, seed=7).features
    repeats = {"challenge": 1, "challenge-ten-trainings": 10, "challenge-no-networks": 0}[protocol]
    # All else is what the challenge's script has by default.
    published = Training(epochs=50, batch_size=1000, learning_rate=2e-4, split=(80_000, 20_000, 21_000))
    assert calls == ([(replace(published, repeats=repeats), 7)] if repeats else [])
    assert ("auc_high" in found) == (repeats > 0)
    assert "auc" in found


def test_splits_are_the_published_ones():
    totals = {"dataset_1_photons": 121_000, "dataset_1_pions": 120_800, "dataset_2": 100_000, "dataset_3": 100_000}
    for name, split in SPLITS.items():
        assert sum(split) == totals[name]
        assert Training(split=split).sizes(totals[name]) == split
    assert Training().sizes(1001) == (600, 200, 201)
