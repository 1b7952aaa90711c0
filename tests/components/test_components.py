import importlib
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rows import headline, judgement

from caloforge.components.artifacts import has_energies
from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.fetch import Fetched
from caloforge.files import read_json, sha256
from caloforge.index import Record
from caloforge.models.bundle import load_bundle
from caloforge.models.energies import load_energies
from caloforge.models.generate import generate
from caloforge.models.training.worker import TrainingFailed
from caloforge.preprocessing.prepared import load_prepared
from caloforge.showers import open_showers
from caloforge.source import Source
from caloforge.validation.report.leaderboard import NoGenerator, leaderboard

NAMES = (
    "simulate",
    "convert",
    "distill",
    "optimise",
    "preprocess",
    "tune",
    "train",
    "generate",
    "validate",
    "export",
    "deploy",
    "overview",
    "notify",
)


class _Artifact(SimpleNamespace):
    """Stands in for an artifact of any kind: a place and metadata."""

    def __init__(self, path: Path, **metadata: Any) -> None:
        super().__init__(path=str(path), uri=str(path), metadata=metadata, logged={}, curves=[])

    def log_metric(self, name: str, value: float) -> None:
        self.logged[name] = value

    def log_roc_curve(self, *columns: list[float]) -> None:
        self.curves.append(columns)


def _component(name: str) -> Any:
    return getattr(importlib.import_module(f"caloforge.components.{name}"), name)


@pytest.mark.parametrize("name", NAMES)
def test_components_need_no_installation_at_run_time(name: str) -> None:
    component = _component(name)
    container = component.component_spec.implementation.container
    assert container.image == IMAGE
    assert "pip install" not in " ".join(container.command)
    given_by_pipeline = ("PipelineTaskFinalStatus", "system.Dataset@0.0.1")
    inputs = component.component_spec.inputs.values()
    assert not [i for i in inputs if i.optional and i.default is None and i.type not in given_by_pipeline]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"notify"}))
def test_the_version_of_the_code_is_in_every_cache_key(name: str) -> None:
    assert _component(name).component_spec.inputs["code_version"].type == "String"


def test_every_component_is_listed() -> None:
    folder = Path(importlib.import_module("caloforge.components").__path__[0])
    assert {p.stem for p in folder.glob("*.py")} == {*NAMES, "__init__", "artifacts", "family", "image", "task"}


def test_preprocess_writes_its_artifacts_and_says_where_the_showers_came_from(
    small_showers: Path, tmp_path: Path
) -> None:
    made = {name: _Artifact(tmp_path / name) for name in ("prepared", "quality", "energies", "metrics")}
    prepared, quality = made["prepared"], made["quality"]
    assert has_energies(Path(made["energies"].path))
    checksum = sha256(small_showers)
    (text,) = _component("preprocess").python_func(
        **made, data=str(small_showers), with_energies=False,
        settings=json.dumps({"test_fraction": 0.25}), seed=3, data_sha256=checksum, code_version="1",
    )  # fmt: skip
    assert read_json(Path(prepared.path) / "prepared.json")["settings"]["test_fraction"] == 0.25
    assert Path(quality.path).read_text(encoding="utf-8") == (Path(prepared.path) / "quality.md").read_text()
    assert prepared.metadata["data_sha256"] == checksum
    assert prepared.metadata["data_address"] == str(small_showers)
    assert prepared.metadata["data_size"] == small_showers.stat().st_size
    record = Record.model_validate_json(text)
    assert record.data is not None
    assert record.data.sha256 == checksum
    assert [artifact.name for artifact in record.artifacts] == ["quality"]
    assert not has_energies(Path(made["energies"].path)), "a family that has a use for them trains its own"


def test_several_files_are_one_for_the_steps_that_follow(small_showers: Path, tmp_path: Path) -> None:
    first, showers = (str(small_showers),) * 2, _Artifact(tmp_path / "showers")
    (text,) = _component("convert").python_func(showers, json.dumps(first), test=json.dumps([str(small_showers)]))
    n = len(open_showers(small_showers))
    assert len(open_showers(Path(showers.path))) == 3 * n
    assert Record.model_validate_json(text).step == "convert"
    made = {name: _Artifact(tmp_path / name) for name in ("prepared", "quality", "energies", "metrics")}
    _component("preprocess").python_func(**made, data=json.dumps(first), with_energies=False, showers=showers)
    prepared = load_prepared(Path(made["prepared"].path))
    assert prepared.splits["test"].min() == 2 * n
    assert prepared.source is not None
    assert prepared.source.address.count(str(small_showers)) == 3


@pytest.mark.slow
def test_layer_energies_are_trained_once_for_all_families(small_showers: Path, tmp_path: Path) -> None:
    """With the preset's own steps, which a limit of a second cuts short."""
    made = {name: _Artifact(tmp_path / name) for name in ("prepared", "quality", "energies", "metrics")}
    (text,) = _component("preprocess").python_func(**made, data=str(small_showers), seed=3, max_minutes=0.2)
    assert [artifact.name for artifact in Record.model_validate_json(text).artifacts] == ["quality", "energies"]
    assert made["metrics"].logged["steps"] > 0
    overrides = {"vae": {"training": {"steps": 4}, "model": {"network": {"width": 16, "blocks": 1}}}}
    bundle = _Artifact(tmp_path / "bundle")
    _component("train").python_func(
        made["prepared"], made["energies"], bundle, _Artifact(tmp_path / "train"), str(small_showers), "vae",
        overrides=json.dumps(overrides), standing='["vae"]',
    )  # fmt: skip
    config = read_json(Path(bundle.path) / "config.json")
    assert config["energies"]["sha256"] == load_energies(Path(made["energies"].path)).sha256
    assert config["energies"]["given"]


def test_another_file_at_the_address_is_refused(small_showers: Path, tmp_path: Path) -> None:
    artifacts = [_Artifact(tmp_path / name) for name in ("prepared", "quality", "energies", "metrics")]
    with pytest.raises(InputError, match=r"small\.hdf5: its SHA-256 is [0-9a-f]{64}, not 0{64}"):
        _component("preprocess").python_func(*artifacts, str(small_showers), data_sha256="0" * 64)


def test_generate_needs_no_showers(tiny_bundle: Path, small_prepared: Path, tmp_path: Path) -> None:
    generated, metrics = _Artifact(tmp_path / "generated"), _Artifact(tmp_path / "metrics")
    (text,) = _component("generate").python_func(
        _Artifact(tiny_bundle, family="vae"), _Artifact(small_prepared), generated, metrics, seed=5
    )
    drawn = open_showers(Path(generated.path))
    held_out = load_prepared(small_prepared).conditions_of("test")
    assert np.array_equal(drawn.conditions.incident_energy, held_out.incident_energy)
    assert generated.metadata["family"] == "vae"
    assert drawn.attributes["layer_energies"] == load_bundle(tiny_bundle).config["energies"]["sha256"]
    assert metrics.logged["showers"] == len(held_out)
    assert [artifact.family for artifact in Record.model_validate_json(text).artifacts] == ["vae"]


def test_generate_hands_on_why_there_is_no_generator(small_prepared: Path, tmp_path: Path) -> None:
    generated, metrics = _Artifact(tmp_path / "generated"), _Artifact(tmp_path / "metrics")
    bundle = _Artifact(tmp_path / "bundle", family="vae", failed="OOMKilled: memory is 3Gi")
    (text,) = _component("generate").python_func(bundle, _Artifact(small_prepared), generated, metrics)
    assert generated.metadata["failed"] == "OOMKilled: memory is 3Gi"
    record = Record.model_validate_json(text)
    assert (record.failed, record.artifacts) == ("OOMKilled: memory is 3Gi", ())


OVERRIDES = {
    "training": {"steps": 60, "batch_size": 32},
    "energies": {"steps": 4, "batch_size": 32},
    "model": {"network": {"width": 16, "blocks": 1}},
}


def _train(showers: Path, prepared: Path, folder: Path, learning_rate: float, **options: Any) -> tuple[Any, Record]:
    folder.mkdir()
    bundle, metrics = _Artifact(folder / "bundle"), _Artifact(folder / "metrics")
    overrides = {**OVERRIDES, "training": {**OVERRIDES["training"], "learning_rate": learning_rate}}
    (text,) = _component("train").python_func(
        _Artifact(prepared),
        _Artifact(prepared),
        bundle,
        metrics,
        str(showers),
        "vae",
        overrides=json.dumps({"vae": overrides}),
        **options,
    )
    return bundle, Record.model_validate_json(text)


@pytest.mark.slow
def test_a_training_that_diverges_is_told_by_its_artifact(
    small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    bundle, record = _train(small_showers, small_prepared, tmp_path / "bad", 1e30)
    assert bundle.metadata["failed"].startswith("vae voxels: no finite gradient in 50 steps")
    assert (record.family, record.failed, record.artifacts) == ("vae", bundle.metadata["failed"], ())
    with pytest.raises(TrainingFailed, match="no finite gradient"):
        _train(small_showers, small_prepared, tmp_path / "strict", 1e30, strict=True)
    bundle, record = _train(small_showers, small_prepared, tmp_path / "late", 1e-3, seconds=1)
    assert bundle.metadata["failed"] == "out of time: not done after 1 s"
    bundle, record = _train(small_showers, small_prepared, tmp_path / "good", 1e-3)
    assert "failed" not in bundle.metadata
    assert read_json(Path(bundle.path) / "config.json")["family"] == "vae"
    assert bundle.metadata["display_name"] == "bundle vae"
    assert [artifact.name for artifact in record.artifacts] == ["bundle"]


def test_a_trainings_time_includes_the_fetching(
    small_showers: Path, small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod's own deadline counts it: with a large file the pod would end before the training does."""

    def slowly(address: str, folder: Path, *, checksum: str = "") -> Fetched:
        time.sleep(1.5)
        return Fetched(Path(address), Source(address, 0))

    def trained(request: Any, *, seconds: float, **options: Any) -> None:
        raise TrainingFailed(f"{seconds}")

    monkeypatch.setattr("caloforge.components.artifacts.fetch", slowly)
    monkeypatch.setattr("caloforge.models.training.apart.train_apart", trained)
    bundle, _ = _train(small_showers, small_prepared, tmp_path / "slow", 1e-3, seconds=100)
    assert 0 < float(bundle.metadata["failed"]) <= 98.5


@pytest.mark.slow
def test_validate_ranks_those_that_are_left(
    small_showers: Path, small_prepared: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    good, bad = _Artifact(tmp_path / "good", family="vae"), _Artifact(tmp_path / "bad", family="wgan", failed="it died")
    generate(tiny_bundle, load_prepared(small_prepared).conditions_of("test"), Path(good.path), seed=1)
    good.metadata["ms_per_shower"] = 1.0
    names = ("judgement", "report", "summary", "metrics", "leaderboard", "ranking", "roc")
    made = {name: _Artifact(tmp_path / name) for name in names}
    arguments = (_Artifact(small_prepared), [bad, good], *made.values(), str(small_showers))
    _component("validate").python_func(*arguments)
    board = read_json(tmp_path / "leaderboard")
    assert (board["winner"], board["failed"]) == ("vae", {"wgan": "it died"})
    assert "No generator **wgan**: it died" in (tmp_path / "ranking").read_text()
    assert "There is no generator wgan: it died" in (tmp_path / "report").read_text()
    assert made["metrics"].logged["vae_auc"] == board["rows"][0]["auc"]
    assert made["roc"].curves
    with pytest.raises(NoGenerator, match=r"no generator is left to judge: wgan: it died"):
        _component("validate").python_func(_Artifact(small_prepared), [bad], *made.values(), str(small_showers))


@pytest.mark.slow
def test_export_takes_the_winner_and_serves_it(tiny_bundle: Path, tmp_path: Path) -> None:
    leaderboard(judgement(headline("vae", 0.6, 1, 1))).write(tmp_path / "board")
    bundles = [_Artifact(tmp_path / "no", family="wgan", failed="it died"), _Artifact(tiny_bundle, family="vae")]
    exported, metrics = _Artifact(tmp_path / "exported"), _Artifact(tmp_path / "metrics")
    _component("export").python_func(bundles, _Artifact(tmp_path / "board"), exported, metrics)
    assert (tmp_path / "exported" / "generator.onnx").is_file()
    assert exported.metadata["family"] == "vae"
    assert metrics.logged["latency_ms"] > 0
    assert metrics.logged["onnx_max_relative_difference"] < 1e-4


def test_a_step_simulates_and_goes_on(geant4: str, thin: Path, tmp_path: Path) -> None:
    settings = {"detector": str(thin), "beam": {"energy": [50, 200]}, "n": 40}
    showers, metrics = _Artifact(tmp_path / "showers"), _Artifact(tmp_path / "metrics")
    kept = str(tmp_path / "kept")
    (text,) = _component("simulate").python_func(showers, metrics, json.dumps(settings), seed=3, checkpoints=kept)
    assert len(open_showers(Path(showers.path))) == 40
    assert metrics.logged["cpu_seconds"] > 0
    assert showers.metadata["data_address"].startswith("Geant4 11.")
    assert "e- of 0.05-0.2 GeV" in showers.metadata["data_address"]
    assert Record.model_validate_json(text).step == "simulate"
    assert not list((tmp_path / "kept").iterdir())
    made = {name: _Artifact(tmp_path / name) for name in ("prepared", "quality", "energies", "scalars")}
    made["metrics"] = made.pop("scalars")
    settings = json.dumps({"test_fraction": 0.4, "validation_fraction": 0.4, "min_response": 0.001})
    with pytest.raises(InputError, match="holds only 40 showers"):
        _component("preprocess").python_func(**made, data="", settings=settings, with_energies=False, showers=showers)
