"""The tuning step: off, in its own pod, and through kfp.local with Katib on a local API server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from katib import Katib
from kubernetes_api import KubernetesApi, running

from caloforge.components.tune import tune
from caloforge.files import read_json
from caloforge.index import Record
from caloforge.tuning.objective import TrialFailed

pytestmark = pytest.mark.slow

FIXED = {
    "training": {"steps": 4, "batch_size": 32},
    "energies": {"steps": 4},
    "model": {"network": {"width": 16, "blocks": 1}},
}

PIPELINE = """
import json, sys
from kfp import dsl, local
from caloforge.components.tune import tune

given = json.load(sys.stdin)

@dsl.pipeline
def pipeline() -> str:
    prepared = dsl.importer(artifact_uri=given["prepared"], artifact_class=dsl.Dataset)
    energies = dsl.importer(artifact_uri="s3://physics/energies", artifact_class=dsl.Model)
    artifacts = {"prepared": prepared.output, "energies": energies.output}
    return tune(data=given["showers"], **artifacts, **given["arguments"]).outputs["overrides"]

local.init(local.SubprocessRunner(use_venv=False), pipeline_root=given["root"])
print("RESULT", pipeline().output)
"""


class _Artifact(SimpleNamespace):
    def __init__(self, path: Path) -> None:
        super().__init__(path=str(path), uri=str(path), metadata={}, logged={})

    def log_metric(self, name: str, value: float) -> None:
        self.logged[name] = value


def _run(showers: Path, prepared: Path, output: Path, **arguments: Any) -> tuple[str, dict[str, _Artifact]]:
    made = {name: _Artifact(output / name) for name in ("tuning", "table", "plots", "metrics")}
    output.mkdir()
    artifacts = {"prepared": _Artifact(prepared), "energies": _Artifact(output / "none")}
    result, record = tune.python_func(**artifacts, **made, data=str(showers), family="vae", **arguments)
    assert Record.model_validate_json(record).family == "vae"
    return result, made


def test_off(tmp_path: Path) -> None:
    overrides = json.dumps({"vae": FIXED})
    result, made = _run(tmp_path / "absent", tmp_path / "absent", tmp_path / "out", overrides=overrides, trials=0)
    assert json.loads(result) == json.loads(overrides)
    assert read_json(Path(made["tuning"].path) / "trials.json") == []
    assert all(Path(made[name].path).is_file() for name in ("table", "plots", "metrics"))


@pytest.mark.slow
def test_in_its_own_pod(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    settings = {"spaces": {"vae": {"objective.beta": {"type": "double", "min": 0.2, "max": 4.0, "log": True}}}}
    result, made = _run(
        small_showers, small_prepared, tmp_path / "out", overrides=json.dumps({"vae": FIXED, "wgan": {}}),
        trials=1, backend="local", settings=json.dumps(settings), seed=1, checkpoints=str(tmp_path / "kept"),
    )  # fmt: skip
    best = json.loads(result)["vae"]
    assert 0.2 < best.pop("objective")["beta"] < 4.0
    assert best == FIXED, "what was given is kept"
    folder = Path(made["tuning"].path)
    assert read_json(folder / "overrides.json") == json.loads(result)["vae"]
    assert Path(made["table"].path).read_text(encoding="utf-8") == (folder / "tuning.md").read_text()
    assert Path(made["plots"].path).read_text(encoding="utf-8").count("data:image/png;base64,") == 2
    assert made["metrics"].logged["fpd"] > 0
    (trial,) = (tmp_path / "kept" / "tuning" / "vae" / "trials").iterdir()
    assert read_json(trial / "bundle" / "training.json")["config"]["preset"] == "demo"
    stands_on = read_json(trial / "bundle" / "training.json")["energies"]
    assert stands_on["given"], "the search trained them once, as the overrides have it, and not each trial"
    assert read_json(tmp_path / "kept" / "tuning" / "vae" / "energies" / "training.json")["config"]["steps"] == 4


@pytest.mark.parametrize("required", [False, True])
def test_nothing_found(required: bool, small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    """The time is up before the first trial is done."""
    settings = {"timeout_minutes": 0.001, "required": required}
    overrides = {"vae": FIXED}
    arguments: dict[str, Any] = {
        "overrides": json.dumps(overrides), "trials": 1, "backend": "local", "settings": json.dumps(settings),
    }  # fmt: skip
    if required:
        with pytest.raises(TrialFailed, match="no trial gave fpd: the time is up after 0 of 1 trials"):
            _run(small_showers, small_prepared, tmp_path / "out", **arguments)
        return
    result, made = _run(small_showers, small_prepared, tmp_path / "out", **arguments)
    assert json.loads(result) == overrides, "what was given"
    assert made["metrics"].logged == {"trials": 0, "given_again": 0}
    assert (
        Path(made["table"].path)
        .read_text(encoding="utf-8")
        .startswith("No trial gave fpd: the family keeps its own parameters")
    )
    assert Path(made["plots"].path).read_text(encoding="utf-8").count("data:image/png;base64,") == 2


def test_with_katib(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    with running(KubernetesApi("experiments", "trials")) as api:
        Katib(api).looks = 1
        api.script = ["lost", "none", 503, "none", "reset"]
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(api.url, "physics")))
        arguments = {
            "family": "vae", "trials": 2, "backend": "katib", "standing": '["vae"]',
            "overrides": json.dumps({"vae": {key: FIXED[key] for key in FIXED if key != "energies"}}),
            "pod": json.dumps({"claims": {"showers": "/data"}, "image": "registry/caloforge:1"}),
            "settings": json.dumps({"early_stopping": True}),
        }  # fmt: skip
        given = {
            "showers": str(small_showers), "prepared": str(small_prepared), "root": str(tmp_path / "root"),
            "arguments": arguments,
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-P", "-c", PIPELINE], input=json.dumps(given), capture_output=True, text=True, check=False,
            env={"KUBECONFIG": str(kubeconfig), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        posted = [json.loads(body) for method, path, body in api.bodies if method == "POST"]
        assert not api.of("experiments"), "nothing stays"
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    best = json.loads(line.removeprefix("RESULT"))["vae"]
    assert best["objective"]["beta"] == 0.2
    assert best["training"] == {"steps": 4, "batch_size": 32, "learning_rate": 5e-4}
    experiment, *again = posted
    assert again == [experiment], "the answer to the first request was lost, and its experiment taken up"
    assert experiment["metadata"]["namespace"] == "physics", "the kubeconfig's"
    job = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    assert job["containers"][0]["image"] == "registry/caloforge:1"
    assert "--energies=s3://physics/energies" in [*job["containers"][0]["command"], *job["containers"][0]["args"]]
    assert f"--prepared={small_prepared}" in job["containers"][0]["command"], "the splits of the training"
    table = next((tmp_path / "root").rglob("table")).read_text()
    assert table.count("| 0.25 |") == 1


def _kubeconfig(url: str, namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "planted-secret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
    }
