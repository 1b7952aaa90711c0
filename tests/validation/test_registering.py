"""An observable and a metric of somebody else's module are judged like our own, on a mesh of unlike layers too."""

import csv
import sys

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.validation.registries import FEATURE_METRICS, OBSERVABLES
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow

MODULE = """
import numpy as np
from caloforge.validation.metrics.metric import FeatureMetric
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.observable import Observable
from caloforge.validation.observables.per_shower import every_layer


def root_of_share(summary):
    return np.sqrt(summary.layer_energy / summary.incident_energy[:, None])


def distance_of_means(x, y, seed):
    return Result(float(np.abs(x.mean(axis=0) - y.mean(axis=0)).mean()), 0.1, n=len(x))


SPREAD = Observable("Spread in beta", "", "Shape", root_of_share)
SHARE = Observable("Root of share", "", "Shape", root_of_share, every_layer)
MEANS = FeatureMetric("Distance of means", distance_of_means)
"""

LINES = (
    (OBSERVABLES, "spread_beta", "my_lab:SPREAD"),
    (OBSERVABLES, "share_of_eta", "my_lab:SHARE"),
    (FEATURE_METRICS, "means", "my_lab:MEANS"),
)


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_lab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    for registry, name, where in LINES:
        registry.register(name, where)
    yield
    sys.modules.pop("my_lab", None)
    for registry, name, _ in LINES:
        registry.forget(name)


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
        OBSERVABLES.get("layer_energy").places(mesh, 4)


def test_one_that_cannot_be_imported_is_named():
    OBSERVABLES.register("lost", "no_such_lab:LOST")
    try:
        with pytest.raises(InputError, match=r"observable 'lost': no_such_lab:LOST cannot be imported"):
            dict(OBSERVABLES.items())
    finally:
        OBSERVABLES.forget("lost")
