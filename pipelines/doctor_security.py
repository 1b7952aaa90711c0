"""The doctor's question about Pod Security: which of a run's pods does the namespace refuse?"""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from caloforge.cluster import Refused
from caloforge.errors import InputError
from caloforge.models.training.trainjob import build_train_job
from caloforge.pipelines.doctor_services import release, version_of
from caloforge.pipelines.findings import Finding, Site
from caloforge.pipelines.kubeflow import KubeflowError
from caloforge.pipelines.pod_security import LABEL, Level, violations
from caloforge.pods import pod_template
from caloforge.serving.inference_service import inference_service

KNOWS_CONTEXT = (2, 17)
"""Oldest Kubeflow Pipelines that gives a step the security context that our pipelines ask for."""

RESTRICTED_CONTAINER = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What ``restricted`` wants of a container."""

_INSTALLATION = (
    "kubectl set env deployment/ml-pipeline --namespace kubeflow DEFAULT_SECURITY_CONTEXT_RUN_AS_NON_ROOT=true"
    "   # an administrator, where the installation knows it; or upgrade to 2.17"
)
_COLLECTOR = (
    "kubectl edit configmap katib-config --namespace kubeflow: init: {controller: {injectSecurityContext: true}}, then "
    "kubectl rollout restart deployment/katib-controller --namespace kubeflow   # an administrator; or tuning: {backend: "
    "local}"
)
_INITIALIZER = (
    "kubectl patch clusterstoragecontainer default --type merge --patch '"
    + json.dumps({"spec": {"container": {"securityContext": RESTRICTED_CONTAINER}}})
    + "'   # an administrator"
)


_STRICT: tuple[Level, ...] = ("baseline", "restricted")


def check_security(site: Site) -> Iterator[Finding]:
    """Does the Pod Security level of the namespace let the pods of a run start?"""
    try:
        label = site.labels().get(LABEL)
    except Refused:
        return  # which is said elsewhere
    level = next((one for one in _STRICT if one == label), None)
    if level is None:
        yield Finding("ok", f"{site.namespace} enforces no Pod Security level")
        return
    found = [*_ours(site, level), *_mounted(site)]
    if level == "restricted":
        found += [*_steps(site), *_trials(site), *_servers(site)]
    if all(finding.state == "ok" for finding in found):
        yield Finding("ok", f"{site.namespace} enforces {level}, which refuses none of a run's pods")
    yield from (finding for finding in found if finding.state != "ok")


def _ours(site: Site, level: Level) -> Iterator[Finding]:
    """Yield what offends in objects that we make ourselves."""
    for name, spec in _specs(site).items():
        if wrong := violations(spec, level):
            text = f"{level} refuses {name}: {'; '.join(wrong)}"
            yield Finding("failed", text, _relax(site, "baseline"))


def _relax(site: Site, level: Level) -> str:
    return f"kubectl label namespace {site.namespace} {LABEL}={level} --overwrite   # an administrator"


def _specs(site: Site) -> dict[str, Any]:
    pods = site.pods()
    specs = {}
    if "trial" in pods:
        template = pod_template(pods["trial"], container="trial", image=site.settings.image, command=["caloforge"])
        specs["trial"] = template["spec"]
    if "pod of a TrainJob" in pods:
        job = build_train_job("doctor", ["caloforge"], nodes=1, processes=1, pod=site.settings.training_pod())
        specs["pod of a TrainJob"] = job["spec"]["podTemplateOverrides"][0]["spec"]
    if "server" in pods:
        service = site.settings.served().model_copy(update={"runtime": ""})
        specs["server"] = inference_service("doctor", "s3://bucket/bundle", service)["spec"]["predictor"]
    return specs


def _mounted(site: Site) -> Iterator[Finding]:
    """Yield what PodDefaults put into pods that a level refuses: a folder of the node, e.g. for EOS."""
    try:
        defaults = site.get(f"/apis/kubeflow.org/v1alpha1/namespaces/{site.namespace}/poddefaults")["items"]
    except Refused:
        return
    for default in defaults:
        folders = [volume["hostPath"]["path"] for volume in default["spec"].get("volumes", []) if "hostPath" in volume]
        wanted = default["spec"].get("selector", {}).get("matchLabels", {}).items()
        chosen = [name for name, pod in site.pods().items() if wanted and wanted <= pod.labels.items()]
        if folders and chosen:
            name = default["metadata"]["name"]
            text = f"PodDefault {name} gives {', '.join(chosen)} a folder of the node ({', '.join(folders)}): refused"
            yield Finding("failed", text, _relax(site, "privileged"))


def _steps(site: Site) -> Iterator[Finding]:
    """Yield whether the pipeline's steps are given runAsNonRoot, which is all that they lack."""
    try:
        version = version_of(site.pipelines())
    except (InputError, KubeflowError):
        version = ""
    numbers = release(version)
    text = "restricted refuses the steps of a pipeline (runAsNonRoot)"
    if numbers is None:
        yield Finding(
            "unknown", f"{text} unless Kubeflow Pipelines is 2.17 or later, which could not be asked", _INSTALLATION
        )
    elif numbers < KNOWS_CONTEXT:
        known = f"Kubeflow Pipelines {version} does not know the context that our steps ask for"
        yield Finding("failed", f"{text}: {known}", _INSTALLATION)


def _trials(site: Site) -> Iterator[Finding]:
    """Yield whether Katib gives its collector the context of the trial that it joins."""
    if "tune" not in site.wanted:
        return
    try:
        content = site.get("/api/v1/namespaces/kubeflow/configmaps/katib-config")["data"]["katib-config.yaml"]
        controller = (yaml.safe_load(content).get("init") or {}).get("controller") or {}
    except (Refused, KeyError, AttributeError, yaml.YAMLError):
        text = "restricted refuses trials unless Katib gives its collector their context, which may not be seen"
        look = "kubectl get configmap katib-config --namespace kubeflow -o yaml | grep injectSecurityContext"
        yield Finding("unknown", text, look)
        return
    if not controller.get("injectSecurityContext"):
        text = "restricted refuses trials: Katib's collector joins them without their context"
        yield Finding("failed", text, _COLLECTOR)


def _servers(site: Site) -> Iterator[Finding]:
    """Yield whether KServe gives the container that fetches the bundle what the pod's own context cannot give."""
    if "deploy" not in site.wanted:
        return
    text = "restricted refuses servers: KServe's storage-initializer"
    try:
        found = site.get("/apis/serving.kserve.io/v1alpha1/clusterstoragecontainers")["items"]
    except Refused:
        look = "kubectl get clusterstoragecontainer default -o jsonpath='{.spec.container.securityContext}'"
        yield Finding("unknown", f"{text} may lack its context, which may not be seen", f"{look}; else {_INITIALIZER}")
        return
    contexts = [one["spec"].get("container", {}).get("securityContext") for one in found] or [None]
    for context in contexts:
        spec = {"containers": [{"name": "storage-initializer", "securityContext": context}]}
        if wrong := violations(spec, "restricted"):
            yield Finding("failed", f"{text}: {'; '.join(wrong)}", _INITIALIZER)
            return
