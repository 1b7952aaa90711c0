"""The doctor's questions about storage classes and claims."""

from collections.abc import Iterator
from typing import Any

from caloforge.cluster import ClusterError, Refused
from caloforge.pipelines.findings import Finding, Site

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

_SHARED = {"ReadWriteMany"}

_NAMES = 3
"""So many pods that wait for a claim are named."""


def check_storage(site: Site) -> Iterator[Finding]:
    """Can volumes be made, and are those of the settings there?"""
    try:
        classes = {
            item["metadata"]["name"]: item for item in site.get("/apis/storage.k8s.io/v1/storageclasses")["items"]
        }
    except Refused:
        classes = {}
        yield Finding("unknown", "storage classes may not be listed", "kubectl get storageclasses")
    else:
        yield _default_class(classes)
    for claim in sorted({claim for pod in site.pods().values() for claim in pod.claims}):
        yield _claim(site, claim, classes)


def _default_class(classes: dict[str, Any]) -> Finding:
    for name, item in classes.items():
        if item["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true":
            return Finding("ok", f"storage class {name} is the default")
    fix = "helm install local-path-provisioner, or the driver of your storage"
    if classes:
        fix = f"kubectl annotate storageclass {next(iter(classes))} {_DEFAULT_CLASS}=true"
    known = f" (there is {', '.join(classes)})" if classes else ""
    return Finding("warning", f"no default storage class{known}: a claim without one stays pending", fix)


def _claim(site: Site, name: str, classes: dict[str, Any]) -> Finding:
    show = f"kubectl describe persistentvolumeclaim {name} --namespace {site.namespace}"
    try:
        claim = site.of_namespace(f"persistentvolumeclaims/{name}")
    except Refused as error:
        if error.status == 404:
            text = f"claim {name} is not in namespace {site.namespace}"
            return Finding("failed", text, "kubectl apply -k manifests/base makes one called caloforge")
        return Finding("unknown", f"claim {name} may not be seen", show)
    phase = claim.get("status", {}).get("phase", "?")
    modes = claim["spec"].get("accessModes", [])
    if phase == "Lost":
        return Finding("failed", f"claim {name} has lost its volume", show)
    if phase == "Pending":
        return _pending(site, name, claim, classes, show)
    if (sharing := _sharing(site, name)) and not _SHARED & set(modes):
        text = f"claim {name}: {', '.join(modes)}: {sharing} share it only while they are on one node"
        return Finding("warning", text, f"{show}; a claim with ReadWriteMany")
    return Finding("ok", f"claim {name}: {phase}, {', '.join(modes)}")


def _sharing(site: Site, claim: str) -> str:
    """Say which pods use a claim at the same time; empty if none do."""
    settings = site.settings
    if settings.trains_in_train_job and claim in settings.training_pod().claims:
        return "the pods of a TrainJob"
    if settings.fetch_cache is not None and claim == settings.fetch_cache.claim:
        return "steps that fetch at the same time"
    return ""


def _pending(site: Site, name: str, claim: Any, classes: dict[str, Any], show: str) -> Finding:
    """Say whether it is usual that a claim has no volume yet, why it has none, and who waits for it."""
    waiting = _waiting(site, name)
    chosen = claim["spec"].get("storageClassName")
    if not waiting and classes.get(chosen, {}).get("volumeBindingMode") == "WaitForFirstConsumer":
        return Finding("ok", f"claim {name}: Pending until the first pod asks for it, as storage class {chosen} does")
    if chosen and classes and chosen not in classes:
        cause = f"storage class {chosen} is not there"
    else:
        cause = _last_event(site, name) or f"storage class {chosen or 'of the cluster'} has made no volume"
    more = f" and {len(waiting) - _NAMES} more" if len(waiting) > _NAMES else ""
    verb = "waits" if len(waiting) == 1 else "wait"
    who = f"; {', '.join(waiting[:_NAMES])}{more} {verb} for it" if waiting else "; no pod waits for it yet"
    return Finding("warning", f"claim {name}: Pending: {cause}{who}", show)


def _waiting(site: Site, claim: str) -> list[str]:
    try:
        pods = site.of_namespace("pods")["items"]
    except Refused:
        return []
    return [
        pod["metadata"]["name"]
        for pod in pods
        if pod.get("status", {}).get("phase") == "Pending"
        and any(
            volume.get("persistentVolumeClaim", {}).get("claimName") == claim
            for volume in pod["spec"].get("volumes", [])
        )
    ]


def _last_event(site: Site, claim: str) -> str:
    prefix = f"PersistentVolumeClaim {claim}: "
    try:
        said = [event for event in site.asked.events(claim) if event.startswith(prefix)]
    except (Refused, ClusterError):
        return ""
    return " ".join(said[-1].removeprefix(prefix).split()) if said else ""
