from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from caloforge.pipelines.check import PipelineError, check

Documents = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def golden() -> Documents:
    first, second = yaml.load_all((Path(__file__).parent / "golden.yaml").read_text(), Loader=yaml.CSafeLoader)
    return first, second


def _steps(pipeline: dict[str, Any]) -> Any:
    return pipeline["components"]["comp-caloforge-steps"]["dag"]["tasks"]


def _loop(pipeline: dict[str, Any]) -> Any:
    return pipeline["components"]["comp-families"]


def _container(pipeline: dict[str, Any], name: str) -> Any:
    return pipeline["deploymentSpec"]["executors"][name]["container"]


def test_the_golden_pipeline_is_whole(golden: Documents) -> None:
    check(yaml.safe_dump_all(golden))
    check(yaml.safe_dump(golden[0]))


def _unknown_field(p: Any, _: Any) -> None:
    p["components"]["comp-train"]["retries"] = 1


def _unknown_executor_field(p: Any, _: Any) -> None:
    _container(p, "exec-train")["gpu"] = 1


def _unknown_kubernetes_field(_: Any, k: Any) -> None:
    k["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]["nodes"] = 2


def _component_gone(p: Any, _: Any) -> None:
    del p["components"]["comp-validate"]


def _executor_gone(p: Any, k: Any) -> None:
    del p["deploymentSpec"]["executors"]["exec-validate"]
    del k["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-validate"]


def _executor_for_nobody(p: Any, _: Any) -> None:
    p["deploymentSpec"]["executors"]["exec-other"] = p["deploymentSpec"]["executors"]["exec-train"]


def _platform_for_nobody(_: Any, k: Any) -> None:
    k["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-other"] = {}


def _producer_gone(p: Any, _: Any) -> None:
    _steps(p)["overview"]["inputs"]["artifacts"]["judgement"]["taskOutputArtifact"]["producerTask"] = "judge"


def _output_gone(p: Any, _: Any) -> None:
    _steps(p)["overview"]["inputs"]["artifacts"]["judgement"]["taskOutputArtifact"]["outputArtifactKey"] = "verdict"


def _result_gone(p: Any, _: Any) -> None:
    p["root"]["dag"]["outputs"]["artifacts"]["index"]["artifactSelectors"][0]["outputArtifactKey"] = "loser"


def _not_waited_for(p: Any, _: Any) -> None:
    _steps(p)["overview"]["dependentTasks"].remove("validate")


def _waits_for_nobody(p: Any, _: Any) -> None:
    _steps(p)["overview"]["dependentTasks"].append("nobody")


def _circle(p: Any, _: Any) -> None:
    _steps(p)["validate"]["dependentTasks"].append("export")


def _input_missing(p: Any, _: Any) -> None:
    del _steps(p)["overview"]["inputs"]["artifacts"]["judgement"]


def _input_unknown(p: Any, _: Any) -> None:
    _steps(p)["overview"]["inputs"]["parameters"]["colour"] = {"runtimeValue": {"constant": "red"}}


def _loop_is_not_told(p: Any, _: Any) -> None:
    """What kfp 2.17 compiles where nobody registers the parameter of a resource with the task."""
    del _loop(p)["inputDefinitions"]["parameters"]["pipelinechannel--train_gpus"]
    del _steps(p)["families"]["inputs"]["parameters"]["pipelinechannel--train_gpus"]


def _gpus_as_a_number(p: Any, _: Any) -> None:
    _loop(p)["inputDefinitions"]["parameters"]["pipelinechannel--train_gpus"]["parameterType"] = "NUMBER_INTEGER"


def _gpus_from_nowhere(p: Any, _: Any) -> None:
    del _loop(p)["dag"]["tasks"]["train"]["inputs"]["parameters"]["pipelinechannel--train_gpus"]


def _text_from_nowhere(p: Any, _: Any) -> None:
    source = {"runtimeValue": {"constant": "cores: {{$.inputs.parameters['pipelinechannel--cores']}}"}}
    _loop(p)["dag"]["tasks"]["train"]["inputs"]["parameters"]["preset"] = source


def _latest(p: Any, _: Any) -> None:
    _container(p, "exec-train")["image"] = "registry.org:5000/python-caloforge:latest"


def _no_memory(p: Any, _: Any) -> None:
    del _container(p, "exec-overview")["resources"]["resourceMemoryRequest"]


def _no_description(p: Any, _: Any) -> None:
    del p["root"]["inputDefinitions"]["parameters"]["seed"]["description"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_unknown_field, r"pipeline: .*retries"),
        (_unknown_executor_field, r"exec-train: .*gpu"),
        (_unknown_kubernetes_field, r"platforms: exec-train: .*nodes"),
        (_component_gone, r"task 'validate': component 'comp-validate' is missing"),
        (_executor_gone, r"comp-validate: executor 'exec-validate' is missing"),
        (_executor_for_nobody, r"exec-other: no component uses it"),
        (_platform_for_nobody, r"platforms: executor 'exec-other' is missing"),
        (_producer_gone, r"task 'overview': 'judgement' comes from task 'judge', which is not there"),
        (_output_gone, r"'judgement' comes from output 'verdict' of 'validate', which has none of that name"),
        (_result_gone, r"root: 'index' comes from output 'loser'"),
        (_not_waited_for, r"'judgement' comes from 'validate', for which it does not wait"),
        (_waits_for_nobody, r"waits for 'nobody', which is not there"),
        (_circle, r"tasks deploy, export, optimise, overview, validate wait for each other"),
        (_input_missing, r"does not give 'judgement', which 'comp-overview' needs"),
        (_input_unknown, r"gives 'colour', which 'comp-overview' does not take"),
        (_loop_is_not_told, r"comp-families: task 'train': .*train_gpus', which is not an input here"),
        (_gpus_as_a_number, r"needs? 'pipelinechannel--train_gpus' as STRING, not NUMBER_INTEGER"),
        (_gpus_from_nowhere, r"its resources need 'pipelinechannel--train_gpus', which it is not given"),
        (_text_from_nowhere, r"task 'train': 'preset' needs 'pipelinechannel--cores', which it is not given"),
        (_latest, r"exec-train: image .* has no tag of its own"),
        (_no_memory, r"exec-overview: no resourceMemoryRequest"),
        (_no_description, r"parameter 'seed' has no description"),
    ],
)
def test_what_is_broken_is_named(golden: Documents, damage: Callable[[Any, Any], None], message: str) -> None:
    documents = deepcopy(golden)
    damage(*documents)
    with pytest.raises(PipelineError, match=message):
        check(yaml.dump_all(documents, Dumper=yaml.CSafeDumper))


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: {", "pipelineInfo: 3"])
def test_what_is_no_pipeline_is_refused(text: str) -> None:
    with pytest.raises(PipelineError):
        check(text)
