"""Check a compiled pipeline without a cluster, more strictly than kfp's own loader does.

kfp takes documents whose references lead nowhere; Kubeflow then fails when the run has reached
them, some hours in.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from caloforge.errors import InputError
from caloforge.pipelines.settings import is_pinned

Node = Mapping[str, Any]

_RESOURCES = frozenset(
    ("cpu_request", "cpu_limit", "memory_request", "memory_limit", "accelerator_type", "accelerator_count")
)
"""Inputs that kfp gives a task whose resources are parameters; the component does not declare them."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML was built with libyaml."""

_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")


class PipelineError(InputError):
    """A compiled pipeline that Kubeflow could not run; the message lists what is wrong."""


def check(text: str) -> dict[str, Any]:
    """Check the text of a compiled pipeline.

    Returns:
        Its first document, the specification.

    Raises:
        PipelineError: a field is unknown, a reference leads nowhere, tasks wait for each other, an
            image is not pinned, a container asks for no resources or a parameter has no description.
    """
    try:
        documents = list(yaml.load_all(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise PipelineError(f"not a YAML file ({error})") from None
    if not documents or not all(isinstance(document, dict) for document in documents):
        raise PipelineError("not a compiled pipeline")
    if problems := list(_unknown_fields(documents)) or list(_Graph(*documents[:2]).problems()):
        raise PipelineError("; ".join(problems))
    specification: dict[str, Any] = documents[0]
    return specification


def _unknown_fields(documents: list[Node]) -> Iterator[str]:
    """Parse everything strictly; executors are free-form in the specification and parsed one by one."""
    pipeline, *platforms = documents
    yield from _parse(pipeline, pipeline_spec_pb2.PipelineSpec(), "pipeline")
    executor_type = pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec
    for name, executor in pipeline.get("deploymentSpec", {}).get("executors", {}).items():
        yield from _parse(executor, executor_type(), name)
    if len(platforms) > 1:
        yield f"{len(documents)} documents, at most two expected"
    for platform in platforms:
        yield from _parse(platform, pipeline_spec_pb2.PlatformSpec(), "platforms")
        for name, config in _kubernetes(platform).items():
            message = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
            yield from _parse(config, message, f"platforms: {name}")


def _parse(content: Any, message: Any, where: str) -> Iterator[str]:
    try:
        json_format.ParseDict(content, message)
    except json_format.ParseError as error:
        yield f"{where}: {error}"


def _kubernetes(platform: Node) -> Node:
    found: Node = platform["platforms"].get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    return found


class _Graph:
    """The components and executors of a pipeline, and what refers to what."""

    def __init__(self, pipeline: Node, platform: Node | None = None) -> None:
        self.root = pipeline["root"]
        self.components = pipeline.get("components", {})
        self.executors = pipeline.get("deploymentSpec", {}).get("executors", {})
        self.platform = _kubernetes(platform) if platform else {}

    def problems(self) -> Iterator[str]:
        for name, parameter in _inputs(self.root, "parameters").items():
            if not parameter.get("description"):
                yield f"parameter {name!r} has no description"
        for name, component in {"root": self.root, **self.components}.items():
            if "dag" in component:
                for problem in self._dag(component):
                    yield f"{name}: {problem}"
            elif component.get("executorLabel") not in self.executors:
                yield f"{name}: executor {component.get('executorLabel')!r} is missing"
        labels = {component.get("executorLabel") for component in self.components.values()}
        for name, executor in self.executors.items():
            if name not in labels:
                yield f"{name}: no component uses it"
            if "container" in executor:
                yield from _container(name, executor["container"])
        for name in self.platform.keys() - self.executors.keys():
            yield f"platforms: executor {name!r} is missing"

    def _dag(self, component: Node) -> Iterator[str]:
        tasks = component["dag"]["tasks"]
        for name, task in tasks.items():
            for problem in self._task(component, tasks, task):
                yield f"task {name!r}: {problem}"
        waiting = {name: {*task.get("dependentTasks", [])} & tasks.keys() for name, task in tasks.items()}
        while ready := {name for name, others in waiting.items() if not others & waiting.keys()}:
            waiting = {name: others for name, others in waiting.items() if name not in ready}
        if waiting:
            yield f"tasks {', '.join(sorted(waiting))} wait for each other"
        yield from self._returned(component, tasks)

    def _task(self, component: Node, tasks: Node, task: Node) -> Iterator[str]:
        reference = task["componentRef"]["name"]
        if (target := self.components.get(reference)) is None:
            yield f"component {reference!r} is missing"
            return
        dependent = {*task.get("dependentTasks", [])}
        for other in sorted(dependent - tasks.keys()):
            yield f"waits for {other!r}, which is not there"
        loop_item = task.get("parameterIterator", {}).get("itemInput")
        for kind in ("parameters", "artifacts"):
            given, declared = task.get("inputs", {}).get(kind, {}), _inputs(target, kind)
            for name, source in given.items():
                yield from self._source(component, tasks, dependent, name, source)
                if name not in declared and name not in _RESOURCES and not name.startswith("pipelinechannel--"):
                    yield f"gives {name!r}, which {reference!r} does not take"
            for name, definition in declared.items():
                if not definition.get("isOptional") and name not in given and name != loop_item:
                    yield f"does not give {name!r}, which {reference!r} needs"
        yield from self._placeholders(component, task, target)

    def _source(self, component: Node, tasks: Node, dependent: set[str], name: str, source: Node) -> Iterator[str]:
        for kind, field in (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact")):
            if field in source and source[field] not in _inputs(component, kind):
                yield f"{name!r} comes from {source[field]!r}, which is not an input here"
        for kind, key in (("parameters", "outputParameterKey"), ("artifacts", "outputArtifactKey")):
            output = source.get("taskOutputParameter" if kind == "parameters" else "taskOutputArtifact")
            if output is not None:
                yield from self._output(tasks, output["producerTask"], kind, output[key], name)
        for field in ("taskOutputParameter", "taskOutputArtifact", "taskFinalStatus"):
            producer = source.get(field, {}).get("producerTask")
            if producer is not None and producer not in dependent:
                yield f"{name!r} comes from {producer!r}, for which it does not wait"

    def _output(self, tasks: Node, producer: str, kind: str, key: str, name: str) -> Iterator[str]:
        if producer not in tasks:
            yield f"{name!r} comes from task {producer!r}, which is not there"
            return
        target = self.components.get(tasks[producer]["componentRef"]["name"], {})
        if key not in target.get("outputDefinitions", {}).get(kind, {}):
            yield f"{name!r} comes from output {key!r} of {producer!r}, which has none of that name"

    def _returned(self, component: Node, tasks: Node) -> Iterator[str]:
        for name, output in component["dag"].get("outputs", {}).get("artifacts", {}).items():
            for source in output["artifactSelectors"]:
                yield from self._output(
                    tasks, source["producerSubtask"], "artifacts", source["outputArtifactKey"], name
                )
        for name, output in component["dag"].get("outputs", {}).get("parameters", {}).items():
            selector = output.get("valueFromOneof", {}).get("parameterSelectors", [])
            for source in [*selector, output.get("valueFromParameter")]:
                if source is not None:
                    yield from self._output(
                        tasks, source["producerSubtask"], "parameters", source["outputParameterKey"], name
                    )

    def _placeholders(self, component: Node, task: Node, target: Node) -> Iterator[str]:
        """Check the parameters that stand in an executor's resources: Kubeflow reads strings only, as "" else."""
        container = self.executors.get(target.get("executorLabel"), {}).get("container", {})
        given = task.get("inputs", {}).get("parameters", {})
        for name in sorted(set(_PLACEHOLDER.findall(str(container.get("resources", {})).replace("\\'", "'")))):
            if name not in given:
                yield f"its resources need {name!r}, which it is not given"
                continue
            origin = _inputs(component, "parameters").get(given[name].get("componentInputParameter"), {})
            if origin.get("parameterType", "STRING") != "STRING":
                yield f"its resources need {name!r} as STRING, not {origin['parameterType']}"


def _inputs(component: Node, kind: str) -> Node:
    found: Node = component.get("inputDefinitions", {}).get(kind, {})
    return found


def _container(name: str, container: Node) -> Iterator[str]:
    if not is_pinned(container["image"]):
        yield f"{name}: image {container['image']!r} has no tag of its own"
    for field in ("resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"):
        if not container.get("resources", {}).get(field):
            yield f"{name}: no {field}"
