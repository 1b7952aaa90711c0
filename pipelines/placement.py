"""What Kubeflow Pipelines is told about the pod of a task."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes

from caloforge.errors import InputError
from caloforge.pipelines.settings import PipelineSettings, Step
from caloforge.pods import Pod, cpu_limit, plain_environment, toleration_fields
from caloforge.webhook import WEBHOOK

LAST_WORDS_SECONDS = 900
"""What a pod has beside its training: to pull the image before, and to say what happened after one that took too long."""

_OF_THIS_RUN: tuple[Step, ...] = ("deploy", "overview", "notify")
"""Steps whose result is good for one run only, and never taken from a cache."""


def place(task: Any, settings: PipelineSettings, step: Step, *, resources: Mapping[str, Any] | None = None) -> Any:
    """Give a task its name, image, resources, place, files, attempts and cache.

    Args:
        task: of a component.
        settings: settings of the pipeline.
        step: whose part of the settings it gets; shown in the UI.
        resources: pipeline parameters (strings) that stand for ``cpu``, ``memory``, ``gpus`` and ``gpu_type``
            of the pod, so that a run may change them.

    Raises:
        InputError: Kubeflow Pipelines does not know an amount as it is written.
    """
    pod = settings.pod_of(step)
    task.set_display_name(step).set_container_image(settings.image)
    kubernetes.set_image_pull_policy(task, settings.image_pull_policy)
    # All that Pod Security "restricted" lacks in Kubeflow's steps. The image names its user by a number, so that
    # none is needed here, which platforms that give each namespace numbers of its own would refuse.
    kubernetes.set_security_context(task, run_as_non_root=True)
    try:
        _set_resources(task, pod, resources or {})
    except ValueError as error:
        raise InputError(f"resources of {step!r}: {error}") from None
    _set_place(task, pod)
    _set_contents(task, pod)
    task.set_caching_options(settings.cache and step not in _OF_THIS_RUN)
    if step == "notify" and settings.webhook is not None:
        kubernetes.use_secret_as_env(task, settings.webhook.secret, {settings.webhook.key: WEBHOOK})
    if seconds := settings.timeouts.get(step):
        # A training ends itself in time and says so; the pod's end would be the end of the run.
        kubernetes.set_timeout(task, seconds + (LAST_WORDS_SECONDS if step == "train" else 0))
    if settings.retries:
        backoff = settings.backoff
        task.set_retry(
            settings.retries,
            backoff_duration=f"{backoff.seconds}s",
            backoff_factor=backoff.factor,
            backoff_max_duration=f"{backoff.max_seconds}s",
        )
    return task


def pipeline_config(settings: PipelineSettings) -> dsl.PipelineConfig:
    """Return what holds for the run as a whole."""
    return dsl.PipelineConfig(
        ttl_seconds_after_finished=settings.ttl_seconds, active_deadline_seconds=settings.deadline_seconds
    )


def _set_resources(task: Any, pod: Pod, parameters: Mapping[str, Any]) -> None:
    """Set requests and limits."""
    cpu, memory = parameters.get("cpu", pod.cpu), parameters.get("memory", pod.memory)
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
    if limit := cpu_limit(pod):
        task.set_cpu_limit(limit)
    if pod.gpus or "gpus" in parameters:
        task.set_accelerator_type(parameters.get("gpu_type", pod.gpu_type))
        task.set_accelerator_limit(parameters.get("gpus", pod.gpus))
    # kfp forgets to hand such parameters into a loop around the task (2.17).
    task.register_pipeline_channels(list(parameters.values()))


def _set_place(task: Any, pod: Pod) -> None:
    for key, value in pod.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in pod.tolerations:
        fields = toleration_fields(toleration)
        kubernetes.add_toleration(
            task,
            key=fields.get("key"),
            operator=fields["operator"],
            value=fields.get("value"),
            effect=fields.get("effect"),
            toleration_seconds=fields.get("tolerationSeconds"),
        )
    if pod.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(pod.image_pull_secrets))
    for key, value in pod.labels.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in pod.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)


def _set_contents(task: Any, pod: Pod) -> None:
    for key, value in plain_environment(pod).items():
        task.set_env_variable(key, value)
    for variable, source in pod.secret_env.items():
        kubernetes.use_secret_as_env(task, source.secret, {source.key: variable})
    for secret, path in pod.secret_volumes.items():
        kubernetes.use_secret_as_volume(task, secret, path)
    for claim, path in pod.claims.items():
        kubernetes.mount_pvc(task, claim, path)
    if pod.shm:
        kubernetes.empty_dir_mount(task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=pod.shm)
