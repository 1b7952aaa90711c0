"""One of each kind in a user's own modules, the text of docs/extending.md, and one line for each: the pipeline takes them."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.export import export, run_onnx
from caloforge.models.generate import generate
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES, LOSSES, NETWORKS, OBJECTIVES, SAMPLERS
from caloforge.models.training.train import train
from caloforge.pipelines.settings import PipelineSettings
from caloforge.preprocessing.convert import convert
from caloforge.preprocessing.prepare import prepare
from caloforge.preprocessing.prepared import open_split
from caloforge.preprocessing.registries import READERS
from caloforge.showers import Conditions, open_showers
from caloforge.tuning.objective import measure
from caloforge.validation.registries import FEATURE_METRICS, OBSERVABLES
from caloforge.validation.report.leaderboard import leaderboard
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[1] / "docs" / "extending.md"
DOORS = [
    (NETWORKS, "rings", "RingNetwork"),
    (OBJECTIVES, "uniform_times", "UniformTimes"),
    (SAMPLERS, "three_eighths", "ThreeEighths"),
    (LOSSES, "hottest_voxel", "hottest_voxel"),
    (FAMILIES, "ring_flow", "RingFlow"),
    (FAMILIES, "exponential", "Exponential"),
]
FORMATS = [(READERS, "beam_test", "BEAM_TEST")]
VIEWS = [(OBSERVABLES, "first_half", "FIRST_HALF"), (FEATURE_METRICS, "means", "MEANS")]
STAGE = {"steps": 4, "batch_size": 32}


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The documented module, registered as the documentation says: by name, imported when it is needed."""
    text = DOCS.read_text(encoding="utf-8")
    generators = re.findall(r"```python\n# my_generators\.py\n(.*?)```", text, re.DOTALL)
    formats = re.findall(r"```python\n# my_readers\.py\n(.*?)```", text, re.DOTALL)
    views = re.findall(r"```python\n([^`]*?)(?:OBSERVABLES|FEATURE_METRICS)\.register\(.*?```", text, re.DOTALL)
    modules = (("my_generators", generators, DOORS), ("my_readers", formats, FORMATS), ("my_views", views, VIEWS))
    for module, blocks, lines in modules:
        (tmp_path / f"{module}.py").write_text("\n\n".join(blocks), encoding="utf-8")
        for door, name, attribute in lines:
            door.register(name, f"{module}:{attribute}")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield
    for door, name, _ in [*DOORS, *FORMATS, *VIEWS]:
        door.forget(name)
    for module, _, _ in modules:
        sys.modules.pop(module, None)


@pytest.mark.usefixtures("registered")
def test_one_of_each_kind_goes_through_the_pipeline(
    small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its steps call, one after the other; a step of its own process would know them by their entry points."""
    monkeypatch.setattr(
        "caloforge.validation.validate.write_plots", lambda *_, **__: []
    )  # test_registering.py draws them
    monkeypatch.setattr("caloforge.validation.figures.physics.N_BOOTSTRAPS", 10)
    theirs = open_showers(small_showers)
    np.savez(tmp_path / "beam.npz", beam_gev=theirs.conditions.incident_energy / 1000, cells_kev=theirs.read() * 1000)
    showers, prepared = tmp_path / "showers.hdf5", tmp_path / "prepared"
    assert convert([tmp_path / "beam.npz"], showers, geometry="siw_demo")["format"] == "beam_test"
    assert np.allclose(open_showers(showers).read(), theirs.read(), rtol=1e-6)
    prepare(open_showers(showers), prepared, seed=1)
    losses = [{"name": "hottest_voxel", "weight": 0.1}]
    overrides = {"training": STAGE, "energies": STAGE, "losses": losses, "model": {"network": {"width": 8}}}
    space = {"training.learning_rate": {"type": "double", "min": 1e-4, "max": 1e-2, "log": True}}
    tuning = {"trials": 1, "objective": "means", "spaces": {"ring_flow": space}}
    settings = PipelineSettings.parse(
        {"families": ["ring_flow"], "overrides": {"ring_flow": overrides}, "tuning": tuning}, where="settings"
    )
    bundle = tmp_path / "bundle"
    train(
        TrainingRequest(
            showers=showers, prepared=prepared, output=bundle, family=settings.families[0],
            overrides=settings.overrides["ring_flow"], seed=1,
        )
    )  # fmt: skip
    generator = load_bundle(bundle)
    assert generator.config["settings"]["model"]["network"] == {"backbone": "rings", "width": 8, "blocks": 2}
    assert generator.config["settings"]["objective"] == {"name": "uniform_times"}
    assert generator.config["settings"]["sampler"] == {"name": "three_eighths", "steps": 4}
    test, second = (open_split(showers, prepared, split) for split in ("test", "validation"))
    generate(bundle, test.conditions, tmp_path / "generated.hdf5", seed=1)
    mine = open_showers(tmp_path / "generated.hdf5")
    assert (mine.read().sum(1) > 0).all()
    objective = measure(test, mine, threshold=generator.threshold, seed=1, names=[settings.tuning.objective])
    metrics = validate(test, {"mine": mine}, tmp_path / "judged", floor=second)
    assert metrics.row("mine", "headline", "means").tested
    assert objective["means"] > 0
    observed = metrics.row("mine", "wasserstein", "first_half")
    assert observed.title == "Share of the first half of the layers"
    assert leaderboard(metrics).winner == "mine"
    export(bundle, tmp_path / "exported")
    few = Conditions(np.geomspace(2000.0, 90000.0, 20))
    assert np.allclose(run_onnx(tmp_path / "exported", few, seed=1), generator.sample(few, seed=1), rtol=1e-3, atol=1)


@pytest.mark.usefixtures("registered")
def test_a_family_of_one_stage_trains_samples_and_exports(
    small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    request = TrainingRequest(
        showers=small_showers, prepared=small_prepared, output=tmp_path / "bundle", family="exponential",
        overrides={"rates": {"steps": 300, "batch_size": 64, "learning_rate": 0.05}},
    )  # fmt: skip
    train(request)
    assert not (tmp_path / "bundle" / "transform.safetensors").exists()
    generator = load_bundle(tmp_path / "bundle")
    assert generator.config["energies"] == {}
    showers = generator.sample(Conditions(np.full(2000, 50000.0)), seed=1)
    assert ((showers == 0) | (showers >= generator.threshold)).all()
    # It has learnt how much of the energy is seen: between a half and all of it.
    assert 0.5 < showers.sum(1).mean() / 50000 < 1.1
    export(tmp_path / "bundle", tmp_path / "exported")
    conditions = Conditions(np.geomspace(2000.0, 90000.0, 20))
    difference = run_onnx(tmp_path / "exported", conditions, seed=2) - generator.sample(conditions, seed=2)
    assert np.abs(difference).max() < 0.5


@pytest.mark.usefixtures("registered")
def test_a_backbone_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"needs a backbone 'part of V -> part of V', but 'rings' maps V -> V.*mlp"):
        resolve("coupling_flow", "demo", {"model": {"network": {"backbone": "rings"}}})
    assert resolve("vae", "demo", {"model": {"network": {"backbone": "rings"}}}).family == "vae"
