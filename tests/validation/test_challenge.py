"""The published binnings against a plain transcription, on the mesh of dataset 1 photons."""

import numpy as np
import pytest

from caloforge.cli import validate as command
from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.validation.challenge import THRESHOLDS, dataset_of, separations
from caloforge.validation.metrics import Sample
from caloforge.validation.observables import OBSERVABLES
from caloforge.validation.protocols import PROTOCOLS
from caloforge.validation.summary import summarise
from caloforge.validation.validate import validate

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


def plain_separation(x, y, edges):
    """The definition as the script has it: densities, times the width, scaled to 1."""
    h1, h2 = (np.histogram(v, bins=edges, density=True)[0] * np.diff(edges) for v in (x, y))
    h1, h2 = h1 / h1.sum(), h2 / h2.sum()
    return 0.5 * ((h1 - h2) ** 2 / (h1 + h2 + 1e-16)).sum()


def fixed_edges(name, layer_id):
    far = layer_id in (12, 13)
    if name in ("centre_eta", "centre_phi"):
        return np.linspace(-500 if far else -100, 500 if far else 100, 101)
    if name in ("width_eta", "width_phi"):
        return np.linspace(0, 400 if far else 100, 101)
    if name == "sparsity":
        return np.linspace(0, 1, 21)
    return np.linspace(0, 1500 if layer_id in (12, 13, 14) else 500, 101)


def test_separations_follow_the_script(photons):
    first, second = photons("first", 1), photons("second", 2)
    x, y = (Sample(s, summarise(s, threshold=1.0)) for s in (first, second))
    found = separations(x, y)
    a, b = (np.where(s.read() < 1.0, 0, s.read()) for s in (first, second))
    energy = first.conditions.incident_energy

    response = [v.sum(axis=1, dtype=float) / energy for v in (a, b)]
    assert found["response"].value == pytest.approx(plain_separation(*response, np.linspace(0.5, 1.5, 101)), rel=1e-6)
    at = [energy == 2.0**k for k in range(8, 23)]
    expected = [
        plain_separation(response[0][rows], response[1][rows], np.linspace(*((0.4, 1.4) if i < 4 else (0.9, 1.1)), 21))
        for i, rows in enumerate(at)
        if all((np.abs(r[rows] - 1) < (0.5 if i < 4 else 0.1)).any() for r in response)
    ]
    parts = [part for part in found["response_by_energy"].parts if part not in (0.0, 0.5)]
    assert parts == pytest.approx([e for e in expected if e not in (0.0, 0.5)], rel=1e-6)

    energies = [[v[:, place].sum(axis=1, dtype=float) for place in first.geometry.layer_slices] for v in (a, b)]
    expected = [plain_separation(p, q, np.logspace(0, np.log10(p.max()), 40)) for p, q in zip(*energies, strict=True)]
    assert found["layer_energy"].parts == pytest.approx(expected, rel=1e-6)

    voxels = plain_separation(a.ravel(), b.ravel(), np.logspace(0, np.log10(float(a.max())), 50))
    assert found["voxel_energy"].value == pytest.approx(voxels, rel=1e-6)

    layers = first.geometry.active_layers
    for name in ("centre_eta", "centre_phi", "width_eta", "width_phi", "sparsity", "centre_r", "width_r"):
        ids = [layer.id for layer in layers if layer.n_alpha > 1 or name in ("sparsity", "centre_r", "width_r")]
        columns = [OBSERVABLES[name].columns(s.summary).T for s in (x, y)]
        expected = [plain_separation(p, q, fixed_edges(name, i)) for p, q, i in zip(*columns, ids, strict=True)]
        assert len(found[name].parts) == (2 if "eta" in name or "phi" in name else 5)
        assert found[name].parts == pytest.approx(expected, rel=1e-6)


def test_the_floor_of_a_published_binning_is_its_occupied_bins_over_twice_n():
    from caloforge.validation.challenge import _in_range

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
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_: [])  # seconds saved
    reference, second, generated = (photons(name, seed) for name, seed in (("a", 1), ("b", 2), ("c", 3)))
    metrics = validate(reference, {"c": generated}, tmp_path / "out", floor=second, protocol="challenge-no-networks")
    assert metrics["protocol"]["name"] == "challenge"
    assert metrics["threshold_mev"] == 1.0
    found = metrics["generators"]["c"]
    assert {"auc", "fpd", "kpd", "precision", "recall", "density", "coverage"} <= set(found)
    assert len(found["separation"]["response_by_energy"]["per_layer"]) == 15
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
