"""All pods that a run makes, with the containers that Argo, Kubeflow Pipelines, Katib and KServe put into them.

What others put in is as a stock installation does it: Kubeflow Pipelines 2.17 over Argo 4, seen on a cluster; Katib
0.19 and KServe 0.15, as their configuration says.
"""

from collections.abc import Mapping

from caloforge.pipelines.admission import Container, RunPod
from caloforge.pipelines.findings import Site
from caloforge.pods import resources

Resources = Mapping[str, Mapping[str, str]]

ARGO = (Container.of("init", {}, starts=True), Container.of("wait", {}))
"""In each pod of a run; they ask for nothing."""

LAUNCHER: Resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "256Mi"}}
DRIVER: Resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}}
COLLECTOR: Resources = {"requests": {"cpu": "50m", "memory": "10Mi"}, "limits": {"cpu": "500m", "memory": "100Mi"}}
STORAGE_INITIALIZER: Resources = {
    "requests": {"cpu": "100m", "memory": "100Mi"},
    "limits": {"cpu": "1", "memory": "1Gi"},
}


def planned_pods(site: Site) -> list[RunPod]:
    """Return the pods of a run, the drivers of Kubeflow Pipelines first."""
    drivers = RunPod("driver", (*ARGO, Container.of("main", DRIVER)))
    return [drivers, *(_pod(name, resources(pod)) for name, pod in site.pods().items())]


def _pod(name: str, asked: Resources) -> RunPod:
    if name == "trial":
        return RunPod(name, (Container.of("trial", asked), Container.of("metrics-logger-and-collector", COLLECTOR)))
    if name == "pod of a TrainJob":
        return RunPod(name, (Container.of("node", asked),))
    if name == "server":
        fetching = Container.of("storage-initializer", STORAGE_INITIALIZER, starts=True)
        return RunPod(name, (fetching, Container.of("kserve-container", asked)))
    return RunPod(name, (*ARGO, Container.of("kfp-launcher", LAUNCHER, starts=True), Container.of("main", asked)))
