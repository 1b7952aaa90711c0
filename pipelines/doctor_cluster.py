"""The doctor's first questions: is there an API server, and the namespace of the runs?"""

from collections.abc import Iterator

from caloforge.cluster import Refused
from caloforge.pipelines.findings import Finding, Site

INJECTION = "katib.kubeflow.org/metrics-collector-injection"


def check_version(site: Site) -> Iterator[Finding]:
    """Is there an API server, and does it know us?"""
    try:
        version = site.get("/version")
    except Refused as error:
        fix = "kubectl auth whoami"
        yield Finding("failed", f"{site.asked.api.configuration.host}: {error}", fix)
        return
    if not isinstance(version, dict) or "gitVersion" not in version:
        text = f"{site.asked.api.configuration.host}: answers, but not as a Kubernetes API server"
        yield Finding("failed", text, "kubectl cluster-info")
    else:
        yield Finding("ok", f"Kubernetes {version['gitVersion']}, namespace {site.namespace}")


def check_namespace(site: Site) -> Iterator[Finding]:
    """Is the namespace there, and does Katib work in it?"""
    name = site.namespace
    try:
        labels = site.labels()
    except Refused as error:
        show = f"kubectl get namespace {name} --show-labels"
        if error.status == 404:
            yield Finding("failed", f"namespace {name} is not there", "kubectl get namespaces; then --namespace NAME")
        else:
            yield Finding("unknown", f"labels of namespace {name} may not be seen", show)
        return
    if site.is_profile:
        yield Finding("ok", f"{name} is a Kubeflow profile")
    elif name != "kubeflow":
        text = f"{name} is neither a Kubeflow profile nor kubeflow; pipelines run there only if they are told so"
        yield Finding("warning", text, "kubectl get profiles")
    if labels.get(INJECTION) == "enabled":
        yield Finding("ok", f"{name} has the label {INJECTION}=enabled")
    else:
        text = f"{name} has no label {INJECTION}=enabled: trials would never end"
        yield Finding(site.missing("tune"), text, f"kubectl label namespace {name} {INJECTION}=enabled")
