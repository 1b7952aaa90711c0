import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl

from caloforge.components.deploy import deploy
from caloforge.errors import InputError
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.check import PipelineError
from caloforge.pipelines.compile import compile_pipeline
from caloforge.pipelines.settings import STEPS, PipelineSettings
from caloforge.pods import Pod

GOLDEN = Path(__file__).parent / "golden.yaml"
SETTINGS = Path(__file__).parent / "golden_settings.yaml"


def _without_sdk(text: str) -> str:
    return re.sub(r"^sdkVersion: .*\n", "", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(PipelineSettings.from_yaml(SETTINGS), path)
    assert list(path.parent.iterdir()) == [path]
    return path.read_text()


def test_the_pipeline_is_the_golden_one(compiled: str) -> None:
    """After a wanted change:

    ``caloforge compile -o tests/pipelines/golden.yaml --settings tests/pipelines/golden_settings.yaml``
    """
    assert _without_sdk(compiled) == _without_sdk(GOLDEN.read_text())


def _tasks(compiled: str) -> dict[str, Any]:
    """All tasks that run a container, by name."""
    content = next(yaml.load_all(compiled, Loader=yaml.CSafeLoader))
    dags = [component["dag"]["tasks"] for component in content["components"].values() if "dag" in component]
    tasks = {name: task for dag in [content["root"]["dag"]["tasks"], *dags] for name, task in dag.items()}
    return {name: task for name, task in tasks.items() if f"exec-{name}" in content["deploymentSpec"]["executors"]}


def test_the_version_of_the_code_is_in_every_cache_key(compiled: str) -> None:
    sources = {name: task["inputs"]["parameters"].get("code_version") for name, task in _tasks(compiled).items()}
    assert sources.pop("notify") is None  # never cached
    sources.pop("importer")
    assert {*sources} == {*STEPS} - {"notify"}
    assert all("code_version" in source["componentInputParameter"] for source in sources.values())


def test_the_end_of_a_run_is_told_in_any_case(compiled: str) -> None:
    content = next(yaml.load_all(compiled, Loader=yaml.CSafeLoader))
    last = content["root"]["dag"]["tasks"]["notify"]
    assert last["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert last["cachingOptions"] == {}
    assert last["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "caloforge-steps"}}


def test_a_run_needs_nothing_but_data(compiled: str) -> None:
    content = next(yaml.load_all(compiled, Loader=yaml.CSafeLoader))
    assert all("defaultValue" in value for value in content["root"]["inputDefinitions"]["parameters"].values())


def test_what_kubeflow_could_not_run_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @dsl.pipeline(name="careless")
    def careless(seed: int = 0) -> None:
        deploy(bundle=dsl.importer(artifact_uri="s3://a/b", artifact_class=dsl.Model).output, seed=seed)

    monkeypatch.setattr("caloforge.pipelines.compile.build_pipeline", lambda settings: careless)
    with pytest.raises(PipelineError, match=r"'seed' has no description; exec-deploy: no resourceCpuRequest"):
        compile_pipeline(PipelineSettings(), tmp_path / "pipeline.yaml")
    assert not list(tmp_path.iterdir())


def test_names_of_tasks_fit_into_addresses(compiled: str) -> None:
    """Kubeflow makes the addresses of artifacts of the names that it shows; not every store bears a space."""
    names = [task["taskInfo"]["name"] for task in _tasks(compiled).values()]
    assert not [name for name in names if not re.fullmatch(r"[a-z0-9-]+", name)]


def test_as_objects_of_kubernetes_it_is_the_same(compiled: str, tmp_path: Path) -> None:
    path = tmp_path / "manifests.yaml"
    compile_pipeline(PipelineSettings.from_yaml(SETTINGS), path, manifests=True)
    pipeline, version = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert pipeline["metadata"] == {"name": "caloforge", "namespace": "calo"}
    digest = hashlib.sha256(compiled.encode()).hexdigest()[:12]
    assert version["metadata"] == {"name": f"caloforge-{digest}", "namespace": "calo"}
    assert version["spec"]["pipelineName"] == "caloforge"
    first, second = yaml.load_all(compiled, Loader=yaml.CSafeLoader)
    assert version["spec"]["pipelineSpec"] == first
    assert version["spec"]["platformSpec"] == second


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


def test_a_step_that_waits_for_a_train_job_needs_no_gpus(tmp_path: Path) -> None:
    settings = {
        "resources": {"train": {"cpu": "8", "gpus": 4, "shm": "2Gi", "claims": {"work": "/mnt/shared"}}},
        "distributed": {"nodes": 2, "shared": "/mnt/shared/caloforge"},
    }
    compile_pipeline(PipelineSettings.parse(settings, where="test"), tmp_path / "pipeline.yaml")
    compiled = (tmp_path / "pipeline.yaml").read_text()
    pipeline, platform = yaml.safe_load_all(compiled)
    resources = pipeline["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]
    assert "accelerator" not in resources
    assert resources["resourceCpuRequest"] == "500m"
    given = _tasks(compiled)["train"]["inputs"]["parameters"]
    pod = json.loads(given["training_pod"]["runtimeValue"]["constant"])
    assert (pod["shared"], pod["claims"], pod["shm"]) == ("/mnt/shared/caloforge", {"work": "/mnt/shared"}, "2Gi")
    assert '"gpus": {{$.inputs.parameters' in given["training_resources"]["runtimeValue"]["constant"]
    mounted = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]["pvcMount"]
    assert [volume["mountPath"] for volume in mounted] == ["/mnt/shared"], "the step exchanges data with the pods"


def test_a_train_job_without_storage_is_refused_before_it_is_compiled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ReadWriteMany.*e\.g\. \{claims"):
        compile_pipeline(
            PipelineSettings.parse({"distributed": {"nodes": 2}}, where="test"), tmp_path / "pipeline.yaml"
        )
