"""An observable and a metric of somebody else's module are judged like our own, on a mesh of unlike layers too."""

import csv
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.validation.metrics.registry import FEATURE_METRICS
from caloforge.validation.observables.registry import OBSERVABLES
from caloforge.validation.registries import import_installed
from caloforge.validation.validate import validate

MODULE = """
import numpy as np
from caloforge.validation.metrics.registry import FEATURE_METRICS, FeatureMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.per_shower import every_layer
from caloforge.validation.observables.registry import OBSERVABLES, Observable


def root_of_share(summary):
    return np.sqrt(summary.layer_energy / summary.incident_energy[:, None])


def distance_of_means(x, y, seed):
    return Result(float(np.abs(x.mean(axis=0) - y.mean(axis=0)).mean()), 0.1, n=len(x))


OBSERVABLES["spread_beta"] = Observable("Spread in beta", "", "Shape", root_of_share)
OBSERVABLES["share_of_eta"] = Observable("Root of share", "", "Shape", root_of_share, every_layer)
FEATURE_METRICS["means"] = FeatureMetric("Distance of means", distance_of_means)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    for registry in (OBSERVABLES, FEATURE_METRICS):
        for name, thing in registry.items():
            monkeypatch.setitem(registry, name, thing)  # puts the registry back as it was
    before = set(OBSERVABLES), set(FEATURE_METRICS)
    (tmp_path / "my_lab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("my_lab", "my_lab", "caloforge.validation")
    monkeypatch.setattr("caloforge.validation.registries.entry_points", lambda group: [point] * (group == point.group))
    yield
    sys.modules.pop("my_lab", None)
    for registry, names in zip((OBSERVABLES, FEATURE_METRICS), before, strict=True):
        for name in set(registry) - names:
            del registry[name]


def test_they_are_judged_named_and_drawn(module, write, tmp_path, monkeypatch):
    monkeypatch.setattr("caloforge.validation.plots.style.DPI", 30)  # seconds saved
    geometry = load_geometry("dataset_1_photons")
    rng = np.random.default_rng(0)

    def showers(name):
        energy = 2.0 ** rng.integers(10, 18, 150)
        voxels = rng.gamma(2, 1, (150, geometry.n_voxels)) * np.exp(-geometry.r_of_voxel / 50)
        voxels *= (energy * rng.normal(0.9, 0.02, 150) / voxels.sum(axis=1))[:, None]
        if name == "bad":
            voxels[:, geometry.layer_slices[4]] *= 4
        return write(name, geometry, energy, voxels.astype(np.float32))

    bad = showers("bad")
    metrics = validate(showers("reference"), {"bad": bad}, tmp_path / "out", floor=showers("floor"))
    mine, layers, theirs = (
        metrics.row("bad", "wasserstein", name) for name in ("spread_beta", "share_of_eta", "centre_eta")
    )
    assert layers.worst == "layer 4"
    assert layers.phrase == "root of share, layer 4"
    assert mine.worst == "column 4", "of columns nothing is said about layers"
    assert mine.parts.where == tuple(f"column {i}" for i in range(5))
    assert mine.sigma == layers.sigma > 3
    assert theirs.parts.where == ("layer 1", "layer 2"), "the layers of several alpha bins"
    assert {"spread in beta, column 4", "root of share, layer 4"} <= set(metrics.verdict.distinguishable_by)
    means = metrics.row("bad", "headline", "means")
    assert means.tested
    assert means.sigma == pytest.approx((means.value - means.floor) / np.hypot(0.1, 0.1))
    report = (tmp_path / "out" / "report.html").read_text()
    rows = list(csv.DictReader((tmp_path / "out" / "tables.csv").read_text().splitlines()))
    for name, title in (("spread_beta", "Spread in beta"), ("means", "Distance of means")):
        assert f">{title}" in report
        assert title in {row["title"] for row in rows if row["name"] == name}
    assert (tmp_path / "out" / "plots" / "spread_beta.png").is_file()


def test_an_observable_of_other_columns_than_its_layers_is_refused(mesh):
    with pytest.raises(ValueError, match=r"'Layer energy': 4 columns, but it is said to be of 6 layers"):
        OBSERVABLES["layer_energy"].places(mesh, 4)


def test_a_module_that_is_not_there_is_named(monkeypatch):
    point = EntryPoint("lab", "no_such_lab", "caloforge.validation")
    monkeypatch.setattr("caloforge.validation.registries.entry_points", lambda group: [point])
    with pytest.raises(InputError, match=r"entry point 'lab' of caloforge.validation: no_such_lab cannot be imported"):
        import_installed()
