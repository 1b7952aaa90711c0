"""What the steps ask of a cluster's API: the one table behind the Role of the manifests and the doctor's questions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from caloforge.cluster import EXPERIMENT, INFERENCE_SERVICE, TRAIN_JOB, TRIAL, Kind

Use = Literal["deploy", "tune", "distribute"]

USES: dict[Use, str] = {
    "deploy": "serve the winner",
    "tune": "tune on many nodes",
    "distribute": "train on several nodes",
}

PRODUCTS: dict[Use, tuple[Kind, ...]] = {
    "deploy": (INFERENCE_SERVICE,),
    "tune": (EXPERIMENT, TRIAL),
    "distribute": (TRAIN_JOB,),
}
"""What must be installed for a use."""


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
    Right(EXPERIMENT.group, EXPERIMENT.plural, ("create", "delete", "get"), ("tune",)),
    Right(TRIAL.group, TRIAL.plural, ("list",), ("tune",)),
    Right(TRAIN_JOB.group, TRAIN_JOB.plural, ("create", "delete", "get"), ("distribute",)),
    Right("", "pods", ("list",), ("deploy", "tune", "distribute")),
    Right("", "pods/log", ("get",), ("deploy", "distribute")),
    Right("", "events", ("list",), ("deploy", "tune", "distribute")),
)


def role_rules(rights: Iterable[Right] = RIGHTS) -> list[dict[str, Any]]:
    """Return the rules of a Role that grants the rights and nothing else."""
    return [{"apiGroups": [right.group], "resources": [right.resource], "verbs": list(right.verbs)} for right in rights]
