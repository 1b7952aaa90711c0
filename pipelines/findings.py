"""What the doctor asks with, and what it finds."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from caloforge.cluster import Cluster
from caloforge.pipelines.rights import USUAL, Use
from caloforge.pipelines.settings import STEPS, PipelineSettings
from caloforge.pods import Pod

State = Literal["ok", "failed", "warning", "unknown"]

PROFILE_LABEL = ("app.kubernetes.io/part-of", "kubeflow-profile")


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        state: ``ok``; ``failed``: the first run would fail; ``warning``: something else would, which the
            settings do not ask for; ``unknown``: it could not be checked.
        text: what was found.
        fix: command that mends it, or that finds out what could not be checked.
    """

    state: State
    text: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Site:
    """Where a pipeline is to run.

    Attributes:
        settings: of the pipeline.
        wanted: what it must be able to do there.
        host: address of Kubeflow Pipelines, if known.
        cluster: connection, None if there is no cluster.
    """

    settings: PipelineSettings
    wanted: frozenset[Use] = frozenset(USUAL)
    host: str | None = None
    cluster: Cluster | None = None
    _seen: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def asked(self) -> Cluster:
        """The cluster, for checks that are made only if there is one."""
        assert self.cluster is not None
        return self.cluster

    @property
    def namespace(self) -> str:
        """Namespace of the runs."""
        return self.asked.namespace

    def get(self, path: str) -> Any:
        """Return what the API server answers, asked once for all checks."""
        if path not in self._seen:
            self._seen[path] = self.asked.request("GET", path)
        return self._seen[path]

    def pods(self) -> dict[str, Pod]:
        """Return what the steps, their pods and the server ask for, by name."""
        asking: dict[str, Pod] = {step: self.settings.pod_of(step) for step in STEPS}
        if self.wanted & {"tune", "search", "distribute"}:
            asking["training on nodes of its own"] = self.settings.training_pod()
        return {**asking, "server": self.settings.served()}

    def missing(self, *uses: Use) -> State:
        """Return how bad it is if one of the uses is not possible."""
        return "failed" if self.wanted & set(uses) else "warning"


Check = Callable[[Site], Iterable[Finding]]
