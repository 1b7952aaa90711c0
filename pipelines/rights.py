"""What the steps ask of a cluster's API: the one table behind the Role of the manifests and the doctor's questions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from caloforge.cluster import EXPERIMENT, INFERENCE_SERVICE, OPTIMIZATION_JOB, TRAIN_JOB, TRIAL, Kind

Use = Literal["deploy", "tune", "distribute", "search"]

USES: dict[Use, str] = {
    "deploy": "serve the winner",
    "tune": "tune with Katib",
    "distribute": "train on several nodes",
    "search": "tune with OptimizationJobs",
}

PRODUCTS: dict[Use, tuple[Kind, ...]] = {
    "deploy": (INFERENCE_SERVICE,),
    "tune": (EXPERIMENT, TRIAL),
    "distribute": (TRAIN_JOB,),
    "search": (OPTIMIZATION_JOB, TRAIN_JOB),
}
"""What must be installed for a use."""

USUAL: tuple[Use, ...] = ("deploy", "tune", "distribute")
"""What a Kubeflow of today can do; no release of Trainer has OptimizationJobs yet."""


@dataclass(frozen=True)
class Right:
    """Verbs on a kind of object in the namespace of the runs.

    Attributes:
        group: of the API; empty for Kubernetes' own.
        resource: name in addresses, with the part after a slash.
        verbs: as RBAC has them.
        uses: what they are for.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    uses: tuple[Use, ...]


RIGHTS = (
    Right(INFERENCE_SERVICE.group, INFERENCE_SERVICE.plural, ("create", "delete", "get", "patch"), ("deploy",)),
    Right(EXPERIMENT.group, EXPERIMENT.plural, ("create", "delete", "get", "patch"), ("tune",)),
    Right(TRIAL.group, TRIAL.plural, ("list",), ("tune",)),
    Right(TRAIN_JOB.group, TRAIN_JOB.plural, ("create", "delete", "get"), ("distribute",)),
    Right(OPTIMIZATION_JOB.group, OPTIMIZATION_JOB.plural, ("create", "delete", "get"), ("search",)),
    Right(TRAIN_JOB.group, TRAIN_JOB.plural, ("list",), ("search",)),
    Right("", "pods", ("list",), ("deploy", "tune", "distribute")),
    Right("", "pods/log", ("get",), ("deploy", "distribute")),
    Right("", "events", ("list",), ("deploy", "tune", "distribute", "search")),
)


def role_rules(rights: Iterable[Right] = RIGHTS) -> list[dict[str, Any]]:
    """Return the rules of a Role that grants the rights and nothing else."""
    return [{"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)} for right in rights]
