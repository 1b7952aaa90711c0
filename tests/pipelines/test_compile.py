import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl

from caloforge.components.preprocess import preprocess
from caloforge.errors import InputError
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.check import PipelineError
from caloforge.pipelines.compile import compile_pipeline
from caloforge.pipelines.settings import STEPS, PipelineSettings
from caloforge.pods import Pod

pytestmark = pytest.mark.slow

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
    assert {*sources} == {*STEPS} - {"simulate", "convert", "notify"}
    assert {source["runtimeValue"]["constant"] for source in sources.values()} == {"golden"}


def test_the_data_is_in_the_cache_key_of_every_step_that_fetches_it(compiled: str) -> None:
    for name, task in _tasks(compiled).items():
        given = {key for key in task["inputs"]["parameters"] if key.startswith("data")}
        assert given == (
            {"data", "data_sha256"}
            if name in ("preprocess", "tune", "train", "distill", "validate", "optimise")
            else set()
        ), name


def test_nothing_is_imported(compiled: str) -> None:
    content = next(yaml.load_all(compiled, Loader=yaml.CSafeLoader))
    assert not [name for name, executor in content["deploymentSpec"]["executors"].items() if "importer" in executor]
    assert not content["root"]["inputDefinitions"].get("artifacts")


def test_only_what_belongs_to_one_run_is_never_cached(compiled: str) -> None:
    cached = {name for name, task in _tasks(compiled).items() if task["cachingOptions"].get("enableCache")}
    assert {*STEPS} - cached - {"simulate", "convert"} == {"deploy", "overview", "notify"}


def _pods(content: dict[str, Any], families: int) -> int:
    """Count as Kubeflow does: a driver for each task and each iteration, and a pod of its own for what runs a container."""

    def of(component: dict[str, Any]) -> int:
        count = 0
        for task in component["dag"]["tasks"].values():
            inner = content["components"][task["componentRef"]["name"]]
            if "dag" not in inner:
                count += 2
            elif "parameterIterator" in task:
                count += 1 + families * (1 + of(inner))
            else:
                count += 1 + of(inner)
        return count

    return 1 + of(content["root"])


@pytest.mark.parametrize(
    ("settings", "two", "five"),
    [
        ({}, 22, 37),  # 29 and 50 before this graph, as a cluster showed
        ({"deploy": "calo"}, 24, 39),
        ({"tuning": {"trials": 4}}, 26, 47),
        ({"webhook": {"secret": "hook", "key": "url"}}, 25, 40),
    ],
)
def test_the_number_of_pods(settings: dict[str, Any], two: int, five: int, tmp_path: Path) -> None:
    compile_pipeline(PipelineSettings.parse(settings, where="test"), tmp_path / "pipeline.yaml")
    content = next(yaml.load_all((tmp_path / "pipeline.yaml").read_text(), Loader=yaml.CSafeLoader))
    assert (_pods(content, 2), _pods(content, 5)) == (two, five)


@pytest.mark.parametrize("settings", [{}, {"deploy": "calo", "tuning": {"trials": 4}}])
def test_the_form_asks_a_dozen_questions_at_most(settings: dict[str, Any], tmp_path: Path) -> None:
    compile_pipeline(PipelineSettings.parse(settings, where="test"), tmp_path / "pipeline.yaml")
    content = next(yaml.load_all((tmp_path / "pipeline.yaml").read_text(), Loader=yaml.CSafeLoader))
    asked = {*content["root"]["inputDefinitions"]["parameters"]}
    assert len(asked) <= 12
    assert ("deploy" in asked, "tune_trials" in asked) == (bool(settings), bool(settings))


def test_what_people_see_has_names_of_ours(compiled: str, tmp_path: Path) -> None:
    compile_pipeline(PipelineSettings(), tmp_path / "pipeline.yaml")
    for text in (compiled, (tmp_path / "pipeline.yaml").read_text()):
        content = next(yaml.load_all(text, Loader=yaml.CSafeLoader))
        seen = []
        for name, component in {"root": content["root"], **content["components"]}.items():
            seen += [name, *component.get("dag", {}).get("tasks", {})]
            for side in ("inputDefinitions", "outputDefinitions"):
                seen += component.get(side, {}).get("artifacts", {})
        assert not [name for name in seen if "pipelinechannel" in name or "for-loop" in name]
    first = content["root"]["dag"]["tasks"]
    assert list(first) == ["export", "families", "optimise", "overview", "preprocess", "validate"], (
        "no box around the steps"
    )


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
        preprocess(data="s3://a/b", seed=seed)

    monkeypatch.setattr("caloforge.pipelines.compile.build_pipeline", lambda settings: careless)
    with pytest.raises(PipelineError, match=r"'seed' has no description; exec-preprocess: no resourceCpuRequest"):
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
    content, platforms = yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
    containers = {
        name: executor["container"]
        for name, executor in content["deploymentSpec"]["executors"].items()
        if "container" in executor
    }
    assert {container["image"] for container in containers.values()} == {"registry.org/python-mine:7"}
    resources = containers["exec-generate"]["resources"]
    assert resources["accelerator"]["resourceCount"] == "2"
    assert resources["resourceMemoryLimit"] == "64G"
    assert "accelerator" not in containers["exec-overview"]["resources"]
    assert content["root"]["inputDefinitions"]["parameters"]["train_gpus"]["defaultValue"] == "1"
    kubernetes = platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {config["secretAsVolume"][0]["mountPath"] for config in kubernetes.values()} == {"/krb5"}
    assert "retryPolicy" not in path.read_text()
    assert "enableCache" not in content["root"]["dag"]["tasks"]["validate"]["cachingOptions"]


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
    pipeline, platform = yaml.load_all(compiled, Loader=yaml.CSafeLoader)
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


@pytest.mark.parametrize("settings", [{"convert": True}, {"test": ["c.h5"]}, {"data": ["a.h5", "b.h5"]}])
def test_showers_that_are_no_one_file_of_ours_are_made_one_first(settings: dict[str, Any], tmp_path: Path) -> None:
    compile_pipeline(PipelineSettings.parse(settings, where="test"), tmp_path / "a.yaml")
    tasks = _tasks((tmp_path / "a.yaml").read_text())
    assert "convert" in tasks
    for name in ("preprocess", "train", "validate"):
        assert "showers" in tasks[name]["inputs"]["artifacts"], name
    compile_pipeline(PipelineSettings(data="a.hdf5"), tmp_path / "b.yaml")
    assert "convert" not in _tasks((tmp_path / "b.yaml").read_text())


SIMULATE = {"detector": "siw", "beam": {"particles": ["e-", "gamma"], "energy": [1e3, 1e5]}, "n": 5000}


def test_a_run_may_simulate_its_showers(tmp_path: Path) -> None:
    settings = PipelineSettings.parse({"simulate": SIMULATE, "checkpoints": "/data/kept"}, where="test")
    compile_pipeline(settings, tmp_path / "a.yaml")
    tasks = _tasks((tmp_path / "a.yaml").read_text())
    given = tasks["simulate"]["inputs"]["parameters"]
    assert json.loads(given["settings"]["runtimeValue"]["constant"])["detector"] == "siw"
    assert given["checkpoints"]["runtimeValue"]["constant"] == "/data/kept"
    for name in ("preprocess", "validate"):
        assert tasks[name]["inputs"]["artifacts"]["showers"]["taskOutputArtifact"]["producerTask"] == "simulate", name
    assert "showers" in tasks["train"]["inputs"]["artifacts"]
    content = next(yaml.load_all((tmp_path / "a.yaml").read_text(), Loader=yaml.CSafeLoader))
    assert not {"data", "data_sha256", "geometry"} & {*content["root"]["inputDefinitions"]["parameters"]}


def test_a_detector_of_a_file_goes_along(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    text = yaml.safe_dump({"planar": {"half_width_mm": 90, "periods": 10, "period": [{"material": "G4_Si", "mm": 5.0, "sensitive": True}]}, "mesh": {"geometry": "mine", "layers": 5, "layer_mm": 10, "n_alpha": 4, "rings": 2, "ring_mm": 10}})  # fmt: skip
    file.write_text(text)
    settings = PipelineSettings.parse({"simulate": {**SIMULATE, "detector": str(file)}}, where="test")
    file.unlink()
    compile_pipeline(settings, tmp_path / "a.yaml")
    given = _tasks((tmp_path / "a.yaml").read_text())["simulate"]["inputs"]["parameters"]["settings"]
    assert json.loads(given["runtimeValue"]["constant"])["detector"]["planar"]["half_width_mm"] == 90


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simulate": SIMULATE, "data": "a.hdf5"}, "makes the showers of the run, and data names others"),
        ({"simulate": SIMULATE, "convert": True}, "and convert names others"),
        ({"simulate": {**SIMULATE, "detector": "siww"}}, "did you mean 'siw'"),
        ({"simulate": {**SIMULATE, "beam": {"energy": 1e4, "theta": 0.1}}}, "it holds a shower"),
        ({"simulate": {**SIMULATE, "beam": {"energy": 1e4, "thta": 1}}}, "unknown key"),
    ],
)
def test_simulations_that_a_step_would_refuse(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PipelineSettings.parse(settings, where="test")


@pytest.mark.parametrize(
    ("families", "overrides", "common"),
    [
        (["vae", "wgan"], {}, True),
        (["vae", "wgan"], {"vae": {"energies": {"steps": 5}}}, True),
        (["vae"], {"vae": {"training": {"steps": 5}}}, True),
        (["vae", "tree"], {"vae": {"energies": {"steps": 5}}}, False),
        (["tree"], {}, False),
    ],
)
def test_layer_energies_that_nobody_stands_on_are_not_trained(
    families: list[str], overrides: dict[str, Any], common: bool, tmp_path: Path
) -> None:
    settings = PipelineSettings.parse({"families": families, "overrides": overrides}, where="test")
    compile_pipeline(settings, tmp_path / "pipeline.yaml")
    content = next(yaml.load_all((tmp_path / "pipeline.yaml").read_text(), Loader=yaml.CSafeLoader))
    inputs = content["root"]["dag"]["tasks"]["preprocess"]["inputs"]["parameters"]
    assert inputs["with_energies"]["runtimeValue"]["constant"] is common
