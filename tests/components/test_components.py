import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caloforge.components.image import IMAGE
from caloforge.files import read_json, write_json

NAMES = ("preprocess", "tune", "train", "generate", "validate", "compare", "export", "deploy", "overview", "notify")


class _Artifact(SimpleNamespace):
    """Stands in for an artifact of any kind: a place and metadata."""

    def __init__(self, path: Path, **metadata: Any) -> None:
        super().__init__(path=str(path), metadata=metadata, logged={}, curves=[])

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
    given_by_kubeflow = "PipelineTaskFinalStatus"
    inputs = component.component_spec.inputs.values()
    assert not [i for i in inputs if i.optional and i.default is None and i.type != given_by_kubeflow]


@pytest.mark.parametrize("name", sorted({*NAMES} - {"notify"}))
def test_the_version_of_the_code_is_in_every_cache_key(name: str) -> None:
    assert _component(name).component_spec.inputs["code_version"].type == "String"


def test_every_component_is_listed() -> None:
    folder = Path(importlib.import_module("caloforge.components").__path__[0])
    assert {p.stem for p in folder.glob("*.py")} == {*NAMES, "__init__", "artifacts", "image", "task"}


def test_preprocess_writes_its_artifacts(small_showers: Path, tmp_path: Path) -> None:
    prepared, quality = _Artifact(tmp_path / "prepared"), _Artifact(tmp_path / "quality")
    _component("preprocess").python_func(
        _Artifact(small_showers), prepared, quality,
        settings=json.dumps({"test_fraction": 0.25}), seed=3, data_sha256="abc", code_version="1",
    )  # fmt: skip
    assert read_json(Path(prepared.path) / "prepared.json")["settings"]["test_fraction"] == 0.25
    assert Path(quality.path).read_text() == (Path(prepared.path) / "quality.md").read_text()
    assert prepared.metadata["data_sha256"] == "abc"


def test_compare_hands_on_the_winner(tmp_path: Path) -> None:
    metrics = {}
    bundles = []
    for name, value in (("vae", 0.9), ("wgan", 0.6)):
        metric = {"value": value, "error": 0.01, "floor": 0.5, "floor_error": 0.01, "sigma": 1.0}
        metrics[name] = {key: metric for key in ("auc", "fpd", "mean_separation", "mean_wasserstein")} | {
            "milliseconds_per_shower": 1.0,
            "roc": {"fpr": [0.0, 1.0], "tpr": [0.0, 1.0], "thresholds": [1.0, 0.0]},
        }
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
        bundles.append(_Artifact(tmp_path / name, family=name))
    (tmp_path / "judgement").mkdir()
    write_json(tmp_path / "judgement" / "metrics.json", {"generators": metrics})
    board, summary, winner, roc = (_Artifact(tmp_path / name) for name in ("board", "summary", "winner", "roc"))
    name = _component("compare").python_func(_Artifact(tmp_path / "judgement"), bundles, board, summary, winner, roc)
    assert name == "wgan"
    assert (tmp_path / "winner" / "config.json").read_text() == "wgan"
    assert winner.metadata["family"] == "wgan"
    assert read_json(tmp_path / "board")["winner"] == "wgan"
    assert "wgan" in (tmp_path / "summary").read_text()
    assert roc.curves == [([0.0, 1.0], [0.0, 1.0], [1.0, 0.0])]
