"""The doctor's questions to the API server of a cluster."""

from collections.abc import Iterable, Iterator
from typing import Any

from caloforge.cluster import Kind, Refused
from caloforge.pipelines.findings import PROFILE_LABEL, Finding, Site
from caloforge.pipelines.rights import PRODUCTS, RIGHTS, USES, USUAL, Right, Use
from caloforge.pods import Pod, Toleration

INJECTION = "katib.kubeflow.org/metrics-collector-injection"

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

_TRAINER = 'kubectl apply --server-side -k "https://github.com/kubeflow/trainer.git/manifests/overlays/manager"'
_INSTALL: dict[Use, str] = {
    "deploy": (
        "helm install kserve-crd oci://ghcr.io/kserve/charts/kserve-crd && "
        "helm install kserve oci://ghcr.io/kserve/charts/kserve"
    ),
    "tune": 'kubectl apply -k "github.com/kubeflow/katib.git/manifests/v1beta1/installs/katib-standalone"',
    "distribute": _TRAINER,
    "search": f"{_TRAINER}   # of a version with OptimizationJobs",
}
_RUNTIMES = 'kubectl apply --server-side -k "https://github.com/kubeflow/trainer.git/manifests/overlays/runtimes"'


def check_version(site: Site) -> Iterator[Finding]:
    """Is there an API server, and does it know us?"""
    try:
        version = site.get("/version")
    except Refused as error:
        fix = "kubectl auth whoami"
        yield Finding("failed", f"{site.asked.api.configuration.host}: {error}", fix)
    else:
        yield Finding("ok", f"Kubernetes {version.get('gitVersion', '?')}, namespace {site.namespace}")


def check_products(site: Site) -> Iterator[Finding]:
    """Are the kinds of objects that the steps make known there, in the version that we speak?"""
    for use, kinds in PRODUCTS.items():
        if use not in USUAL and use not in site.wanted:
            continue
        for kind in kinds:
            name = f"{kind.product}: {kind.plural}.{kind.group}/{kind.version}"
            if _is_served(site, kind):
                yield Finding("ok", name)
            elif others := _versions(site, kind.group):
                text = f"{name} is not there, but {kind.group} in {', '.join(others)}, to {USES[use]}"
                yield Finding(site.missing(use), text, _INSTALL[use])
            else:
                yield Finding(site.missing(use), f"{name} is not installed, to {USES[use]}", _INSTALL[use])


def check_rights(site: Site) -> Iterator[Finding]:
    """May we do what the steps do?"""
    yield from _reviewed(site, None, "you")


def check_account(site: Site) -> Iterator[Finding]:
    """May the account of the steps do it?"""
    account = site.settings.service_account or ("default-editor" if _is_profile(site) else "pipeline-runner")
    user = f"system:serviceaccount:{site.namespace}:{account}"
    try:
        site.get(f"/api/v1/namespaces/{site.namespace}/serviceaccounts/{account}")
    except Refused as error:
        look = f"kubectl get serviceaccount {account} --namespace {site.namespace}"
        if error.status == 404:
            text = f"ServiceAccount {account}, as which the steps run, is not in namespace {site.namespace}"
            yield Finding("failed", text, f"{look}; service_account of the settings names another")
            return
    try:
        yield from _reviewed(site, user, account)
    except Refused as error:
        if error.status not in (403, 404):
            raise
        text = f"what {account} may do: you may not ask for others"
        can = f"kubectl auth can-i --list --as={user} --namespace {site.namespace}"
        yield Finding("unknown", text, f"{can}   # an administrator, or caloforge doctor within a pod")


def check_namespace(site: Site) -> Iterator[Finding]:
    """Is the namespace there, and does Katib work in it?"""
    name = site.namespace
    try:
        labels = site.get(f"/api/v1/namespaces/{name}")["metadata"].get("labels", {})
    except Refused as error:
        show = f"kubectl get namespace {name} --show-labels"
        if error.status == 404:
            yield Finding("failed", f"namespace {name} is not there", "kubectl get namespaces; then --namespace NAME")
        else:
            yield Finding("unknown", f"labels of namespace {name} may not be seen", show)
        return
    if _is_profile(site):
        yield Finding("ok", f"{name} is a Kubeflow profile")
    elif name != "kubeflow":
        text = f"{name} is neither a Kubeflow profile nor kubeflow; pipelines run there only if they are told so"
        yield Finding("warning", text, "kubectl get profiles")
    if labels.get(INJECTION) == "enabled":
        yield Finding("ok", f"{name} has the label {INJECTION}=enabled")
    else:
        text = f"{name} has no label {INJECTION}=enabled: trials would never end"
        yield Finding(site.missing("tune"), text, f"kubectl label namespace {name} {INJECTION}=enabled")


def check_storage(site: Site) -> Iterator[Finding]:
    """Can volumes be made, and are those of the settings there?"""
    try:
        classes = site.get("/apis/storage.k8s.io/v1/storageclasses")["items"]
    except Refused:
        yield Finding("unknown", "storage classes may not be listed", "kubectl get storageclasses")
    else:
        names = [item["metadata"]["name"] for item in classes]
        chosen = [item["metadata"]["name"] for item in classes if _is_default(item)]
        if chosen:
            yield Finding("ok", f"storage class {chosen[0]} is the default")
        else:
            fix = (
                f"kubectl annotate storageclass {names[0]} {_DEFAULT_CLASS}=true"
                if names
                else "helm install local-path-provisioner, or the driver of your storage"
            )
            known = f" (there is {', '.join(names)})" if names else ""
            yield Finding("warning", f"no default storage class{known}: a claim without one stays pending", fix)
    for claim in sorted({claim for pod in site.pods().values() for claim in pod.claims}):
        yield _claim(site, claim)


def check_secrets(site: Site) -> Iterator[Finding]:
    """Are the Secrets of the settings there, with their keys?"""
    needed: dict[str, set[str]] = {}
    for pod in site.pods().values():
        for source in pod.secret_env.values():
            needed.setdefault(source.secret, set()).add(source.key)
        for secret in (*pod.secret_volumes, *pod.image_pull_secrets):
            needed.setdefault(secret, set())
    if webhook := site.settings.webhook:
        needed.setdefault(webhook.secret, set()).add(webhook.key)
    for secret, keys in sorted(needed.items()):
        yield _secret(site, secret, keys)


def check_nodes(site: Site) -> Iterator[Finding]:
    """Is there a node for each step that asks for GPUs?"""
    asking = {name: pod for name, pod in site.pods().items() if pod.gpus}
    try:
        nodes = site.get("/api/v1/nodes")["items"]
    except Refused:
        if asking:
            show = f"kubectl get nodes -o custom-columns=NAME:.metadata.name,GPU:.status.allocatable.{_gpu(asking)}"
            yield Finding("unknown", "nodes may not be listed", f"{show}   # an administrator")
        else:
            yield Finding("ok", "no step asks for GPUs")
        return
    if not asking:
        yield Finding("ok", f"no step asks for GPUs; {len(nodes)} nodes")
    for name, pod in asking.items():
        what = f"{name}: {pod.gpus} x {pod.gpu_type}"
        obstacles = [_obstacle(node, pod) for node in nodes]
        if fitting := [node["metadata"]["name"] for node, no in zip(nodes, obstacles, strict=True) if not no]:
            yield Finding("ok", f"{what}: {len(fitting)} nodes, e.g. {fitting[0]}")
        else:
            said = "; ".join(sorted({no for no in obstacles if no})) or "there are no nodes"
            fix = "kubectl describe nodes; then resources (gpus, gpu_type, node_selector, tolerations) of the settings"
            yield Finding("failed", f"{what}: no node fits: {said}", fix)


def check_runtime(site: Site) -> Iterator[Finding]:
    """Is the runtime of distributed trainings there?"""
    (kind,) = PRODUCTS["distribute"]
    if not _is_served(site, kind):
        return  # which is said elsewhere
    name = site.settings.distributed.runtime
    try:
        site.get(f"/apis/{kind.group}/{kind.version}/clustertrainingruntimes/{name}")
    except Refused as error:
        if error.status == 404:
            yield Finding(site.missing("distribute"), f"ClusterTrainingRuntime {name} is not there", _RUNTIMES)
        else:
            look = f"kubectl get clustertrainingruntime {name}"
            yield Finding("unknown", f"ClusterTrainingRuntime {name} may not be seen", look)
    else:
        yield Finding("ok", f"ClusterTrainingRuntime {name}")


def _is_served(site: Site, kind: Kind) -> bool:
    try:
        resources = site.get(f"/apis/{kind.group}/{kind.version}")["resources"]
    except Refused as error:
        if error.status != 404:
            raise
        return False
    return any(resource["name"] == kind.plural for resource in resources)


def _versions(site: Site, group: str) -> list[str]:
    try:
        return [version["version"] for version in site.get(f"/apis/{group}")["versions"]]
    except Refused as error:
        if error.status != 404:
            raise
        return []


def _is_profile(site: Site) -> bool:
    try:
        labels = site.get(f"/api/v1/namespaces/{site.namespace}")["metadata"].get("labels", {})
    except Refused:
        return site.namespace != "kubeflow"
    key, value = PROFILE_LABEL
    return bool(labels.get(key) == value)


def _reviewed(site: Site, user: str | None, who: str) -> Iterator[Finding]:
    """Ask for each verb of the table; what is not installed cannot be granted in a way that matters."""
    installed = [use for use, kinds in PRODUCTS.items() if all(_is_served(site, kind) for kind in kinds)]
    for use in installed:
        rights = [right for right in RIGHTS if use in right.uses]
        denied = [(right, verb) for right in rights for verb in right.verbs if not _may(site, right, verb, user)]
        if denied:
            listed = ", ".join(f"{verb} {_resource(right)}" for right, verb in denied)
            text = f"{who} may not {listed} in {site.namespace}, to {USES[use]}"
            yield Finding(site.missing(use), text, f"kubectl apply -k {_overlay(site)}   # an administrator")
        else:
            yield Finding("ok", f"{who} may {USES[use]} ({sum(len(right.verbs) for right in rights)} verbs)")


def _overlay(site: Site) -> str:
    return f"manifests/overlays/{'profile/admin' if _is_profile(site) else 'standalone'}"


def _resource(right: Right) -> str:
    return f"{right.resource}.{right.group}" if right.group else right.resource


def _may(site: Site, right: Right, verb: str, user: str | None) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {
        "namespace": site.namespace,
        "verb": verb,
        "group": right.group,
        "resource": resource,
        "subresource": part,
    }
    kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {"resourceAttributes": attributes, **({"user": user} if user else {})},
    }
    answer = site.asked.request("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=body)
    return bool(answer["status"].get("allowed"))


def _is_default(storage_class: dict[str, Any]) -> bool:
    return bool(storage_class["metadata"].get("annotations", {}).get(_DEFAULT_CLASS) == "true")


def _claim(site: Site, name: str) -> Finding:
    show = f"kubectl get persistentvolumeclaim {name} --namespace {site.namespace}"
    try:
        claim = site.get(f"/api/v1/namespaces/{site.namespace}/persistentvolumeclaims/{name}")
    except Refused as error:
        if error.status == 404:
            text = f"claim {name} is not in namespace {site.namespace}"
            return Finding("failed", text, "kubectl apply -k manifests/base makes one called caloforge")
        return Finding("unknown", f"claim {name} may not be seen", show)
    phase = claim.get("status", {}).get("phase", "?")
    modes = ", ".join(claim["spec"].get("accessModes", []))
    if phase == "Lost":
        return Finding("failed", f"claim {name} has lost its volume", show)
    note = " (its volume may be made when the first pod asks for it)" if phase == "Pending" else ""
    return Finding("ok", f"claim {name}: {phase}{note}, {modes}")


def _secret(site: Site, name: str, keys: Iterable[str]) -> Finding:
    literals = " ".join(f"--from-literal={key}=..." for key in sorted(keys)) or "..."
    make = f"kubectl create secret generic {name} --namespace {site.namespace} {literals}"
    try:
        # Not remembered: values have no business here.
        there = set(site.asked.request("GET", f"/api/v1/namespaces/{site.namespace}/secrets/{name}").get("data", {}))
    except Refused as error:
        if error.status == 404:
            return Finding("failed", f"Secret {name} is not in namespace {site.namespace}", make)
        show = f"kubectl describe secret {name} --namespace {site.namespace}"
        return Finding("unknown", f"Secret {name} may not be seen", show)
    if missing := sorted(set(keys) - there):
        return Finding("failed", f"Secret {name} has no entry {', '.join(missing)}", make)
    return Finding("ok", f"Secret {name}")


def _gpu(asking: dict[str, Pod]) -> str:
    return next(iter(asking.values())).gpu_type.replace(".", r"\.")


def _obstacle(node: dict[str, Any], pod: Pod) -> str:
    """Say why a pod cannot run on a node; empty if it can."""
    labels, spec = node["metadata"].get("labels", {}), node.get("spec", {})
    wrong = [f"{key}={value}" for key, value in pod.node_selector.items() if labels.get(key) != value]
    if wrong:
        return f"without label {', '.join(wrong)}"
    count = int(node.get("status", {}).get("allocatable", {}).get(pod.gpu_type, "0"))
    if count < pod.gpus:
        return f"with {count} {pod.gpu_type}"
    for taint in spec.get("taints", []):
        if taint["effect"] != "PreferNoSchedule" and not any(_bears(one, taint) for one in pod.tolerations):
            return f"with the taint {taint['key']}:{taint['effect']}"
    return ""


def _bears(toleration: Toleration, taint: dict[str, str]) -> bool:
    if toleration.effect not in (None, taint["effect"]) or toleration.key not in (None, taint["key"]):
        return False
    return toleration.operator == "Exists" or toleration.value == taint.get("value", "")
