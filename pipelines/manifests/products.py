"""What may be installed on a cluster beside Kubeflow Pipelines, and how to see whether it is."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from caloforge.cluster import EXPERIMENT, INFERENCE_SERVICE, OPTIMIZATION_JOB, TRAIN_JOB, TRIAL, Cluster, Kind, Refused

Part = Literal["kserve", "katib", "trainer", "istio"]

PARTS: tuple[Part, ...] = get_args(Part)

AUTHORIZATION_POLICY = Kind(
    "security.istio.io", "v1beta1", "authorizationpolicies", "AuthorizationPolicy", product="Istio"
)

_TRAINER = 'kubectl apply --server-side -k "https://github.com/kubeflow/trainer.git/manifests/overlays/manager"'

RUNTIMES = 'kubectl apply --server-side -k "https://github.com/kubeflow/trainer.git/manifests/overlays/runtimes"'
"""Installs the runtimes that TrainJobs are made from."""


@dataclass(frozen=True)
class Product:
    """Something that a cluster may have.

    Attributes:
        name: as people call it.
        kinds: that we use, all of one group and version.
        install: command that installs it, or a newer one over it.
    """

    name: str
    kinds: tuple[Kind, ...]
    install: str

    @property
    def group(self) -> str:
        """API group of its kinds."""
        return self.kinds[0].group

    @property
    def version(self) -> str:
        """Version of the group that we speak."""
        return self.kinds[0].version


PRODUCTS: Mapping[Part, Product] = {
    "kserve": Product(
        "KServe",
        (INFERENCE_SERVICE,),
        "helm install kserve-crd oci://ghcr.io/kserve/charts/kserve-crd && "
        "helm install kserve oci://ghcr.io/kserve/charts/kserve",
    ),
    "katib": Product(
        "Katib",
        (EXPERIMENT, TRIAL),
        'kubectl apply -k "github.com/kubeflow/katib.git/manifests/v1beta1/installs/katib-standalone"',
    ),
    "trainer": Product("Kubeflow Trainer 2", (TRAIN_JOB,), _TRAINER),
    "istio": Product("Istio", (AUTHORIZATION_POLICY,), "istioctl install"),
}

OPTIMIZER = Product(
    "Kubeflow Trainer with OptimizationJobs", (OPTIMIZATION_JOB,), f"{_TRAINER}   # a version that has them"
)

Get = Callable[[str], Any]
"""Asks the API server for what is at a path; raises Refused."""


def served(get: Get, group: str) -> dict[str, set[str]]:
    """Return the kinds of an API group (their names in addresses) by version; nothing if the group is not there."""
    try:
        found = get(f"/apis/{group}")
    except Refused as error:
        if error.status != 404:
            raise
        return {}
    versions = _names(found, "versions", "version")
    return {version: _names(get(f"/apis/{group}/{version}"), "resources", "name") for version in versions}


def _names(answer: Any, key: str, name: str) -> set[str]:
    """Return a field of each item of an answer; an API server that is none has none."""
    items = answer.get(key) if isinstance(answer, dict) else None
    return {str(item[name]) for item in items or () if isinstance(item, dict) and name in item}


def is_served(get: Get, product: Product) -> bool:
    """Return whether all kinds of a product are there, in the version that we speak."""
    return {kind.plural for kind in product.kinds} <= served(get, product.group).get(product.version, set())


def age(version: str) -> tuple[int, int, int]:
    """Return what sorts versions of API groups as Kubernetes does: v1alpha1, v1beta1, v1, v2."""
    found = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if found is None:
        return (0, 0, 0)
    return int(found[1]), {"alpha": 0, "beta": 1, None: 2}[found[2]], int(found[3] or 0)


def missing_parts(cluster: Cluster) -> frozenset[Part]:
    """Return the products that a cluster does not have, or not in the version that we speak.

    Raises:
        Refused: the cluster does not let us ask.
        ClusterError: it does not answer.
    """

    def get(path: str) -> Any:
        return cluster.request("GET", path)

    return frozenset(part for part, product in PRODUCTS.items() if not is_served(get, product))
