import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from caloforge.errors import InputError
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.compile import compile_pipeline
from caloforge.pipelines.settings import PipelineSettings
from caloforge.pods import Pod

GOLDEN = Path(__file__).parent / "golden.yaml"
SETTINGS = Path(__file__).parent / "golden_settings.yaml"


def _without_sdk(text: str) -> str:
    return re.sub(r"^sdkVersion: .*\n", "", text, flags=re.MULTILINE)


@pytest.fixture
def compiled(tmp_path: Path) -> str:
    path = tmp_path / "pipeline.yaml"
    compile_pipeline(PipelineSettings.from_yaml(SETTINGS), path)
    assert list(tmp_path.iterdir()) == [path]
    return path.read_text()


def test_the_pipeline_is_the_golden_one(compiled: str) -> None:
    """After a wanted change:

    ``caloforge compile -o tests/pipelines/golden.yaml --settings tests/pipelines/golden_settings.yaml``
    """
    assert _without_sdk(compiled) == _without_sdk(GOLDEN.read_text())


def test_kubeflow_can_parse_it(compiled: str) -> None:
    content, _ = yaml.safe_load_all(compiled)
    spec = json_format.ParseDict(content, pipeline_spec_pb2.PipelineSpec())
    executors = content["deploymentSpec"]["executors"]
    for executor in executors.values():  # a Struct in the spec: unknown fields are found only here
        json_format.ParseDict(executor, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec())
    labels = {component.executor_label for component in spec.components.values()} - {""}
    assert labels == set(executors)


def test_the_graph_is_whole(compiled: str) -> None:
    content, _ = yaml.safe_load_all(compiled)
    _check_dag(content["root"], content["components"])


def _check_dag(component: dict[str, Any], components: dict[str, Any]) -> None:
    tasks = component["dag"]["tasks"]
    for name, task in tasks.items():
        target = components[task["componentRef"]["name"]]
        inputs = task.get("inputs", {})
        given = set(inputs.get("parameters", {})) | set(inputs.get("artifacts", {}))
        declared = target.get("inputDefinitions", {})
        required = {
            key
            for kind in ("parameters", "artifacts")
            for key, value in declared.get(kind, {}).items()
            if not value.get("isOptional") and not key.endswith("-loop-item")
        }
        assert required <= given, name
        needed = {
            source[key]["producerTask"]
            for kind in ("parameters", "artifacts")
            for source in inputs.get(kind, {}).values()
            for key in ("taskOutputArtifact", "taskOutputParameter")
            if key in source
        }
        assert needed <= set(task.get("dependentTasks", [])), name
        if "dag" in target:
            _check_dag(target, components)
    order: list[str] = []
    while len(order) < len(tasks):  # no cycle: some task is always ready
        ready = [n for n, t in tasks.items() if n not in order and set(t.get("dependentTasks", [])) <= set(order)]
        assert ready
        order += ready


def test_a_run_needs_nothing_but_data(compiled: str) -> None:
    content, _ = yaml.safe_load_all(compiled)
    assert all("defaultValue" in value for value in content["root"]["inputDefinitions"]["parameters"].values())
    images = [e["container"]["image"] for e in content["deploymentSpec"]["executors"].values() if "container" in e]
    assert not [image for image in images if image.endswith(":latest") or ":" not in image]


def test_settings_reach_the_executors(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    settings = PipelineSettings(
        image="registry.org/python-mine:7",
        pod=Pod(secret_volumes={"ticket": "/krb5"}),
        resources={"generate": {"gpus": 2, "memory": "64G"}, "train": {"gpus": 1}},
        retries=0,
        cache=False,
    )
    compile_pipeline(settings, path)
    content, platforms = yaml.safe_load_all(path.read_text())
    containers = {
        name: executor["container"]
        for name, executor in content["deploymentSpec"]["executors"].items()
        if "container" in executor
    }
    assert {container["image"] for container in containers.values()} == {"registry.org/python-mine:7"}
    resources = containers["exec-generate"]["resources"]
    assert resources["accelerator"]["resourceCount"] == "2"
    assert resources["resourceMemoryLimit"] == "64G"
    assert "accelerator" not in containers["exec-compare"]["resources"]
    assert content["root"]["inputDefinitions"]["parameters"]["train_gpus"]["defaultValue"] == "1"
    kubernetes = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {config["secretAsVolume"][0]["mountPath"] for config in kubernetes.values()} == {"/krb5"}
    assert "retryPolicy" not in path.read_text()
    assert content["root"]["dag"]["tasks"]["caloforge-steps"]["componentRef"]["name"] == "comp-caloforge-steps"
    tasks = content["components"]["comp-caloforge-steps"]["dag"]["tasks"]
    assert "enableCache" not in tasks["validate"]["cachingOptions"]


def test_an_amount_that_kubeflow_does_not_know_names_the_step() -> None:
    settings = PipelineSettings(resources={"validate": {"memory": "1.5Gi"}})
    with pytest.raises(InputError, match=r"resources of 'validate': Invalid memory string"):
        build_pipeline(settings)
