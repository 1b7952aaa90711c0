"""What the doctor asks with, and what it finds."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from caloforge.cluster import Cluster, Refused
from caloforge.errors import InputError
from caloforge.pipelines.kubeflow.client import Kubeflow, KubeflowError
from caloforge.pipelines.kubeflow.client import connect as connect_pipelines
from caloforge.pipelines.manifests.rights import USUAL, Use
from caloforge.pipelines.settings import STEPS, PipelineSettings
from caloforge.pods import Pod
from caloforge.secrets import masked

State = Literal["ok", "failed", "warning", "unknown"]

PROFILE_LABEL = ("app.kubernetes.io/part-of", "kubeflow-profile")


@dataclass(frozen=True)
class Finding:
    """The answer to one question; it holds no secrets.

    Attributes:
        state: ``ok``; ``failed``: the first run would fail; ``warning``: something else would, which the
            settings do not ask for; ``unknown``: it could not be checked.
        text: what was found.
        fix: command that mends it, or that finds out what could not be checked.
    """

    state: State
    text: str
    fix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", masked(self.text))

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
        token_file: file with the token for Kubeflow Pipelines, see :func:`caloforge.pipelines.kubeflow.client.connect`.
        cookies_file: file with cookies for it.
    """

    settings: PipelineSettings
    wanted: frozenset[Use] = frozenset(USUAL)
    host: str | None = None
    cluster: Cluster | None = None
    token_file: Path | None = None
    cookies_file: Path | None = None
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

    @property
    def is_profile(self) -> bool:
        """Whether the namespace belongs to a user of Kubeflow."""
        try:
            labels = self.labels()
        except Refused:
            return self.namespace != "kubeflow"
        key, value = PROFILE_LABEL
        return labels.get(key) == value

    @property
    def account(self) -> str:
        """Account that the steps run as."""
        return self.settings.service_account or ("default-editor" if self.is_profile else "pipeline-runner")

    def get(self, path: str) -> Any:
        """Return what the API server answers, asked once for all checks."""
        if path not in self._seen:
            self._seen[path] = self.asked.request("GET", path)
        return self._seen[path]

    def of_namespace(self, place: str) -> Any:
        """Return what is at a place below the namespace of the runs, e.g. ``pods``."""
        return self.get(f"/api/v1/namespaces/{self.namespace}/{place}")

    def labels(self) -> dict[str, str]:
        """Return the labels of the namespace.

        Raises:
            Refused: it is not there, or may not be seen.
        """
        found: dict[str, str] = self.get(f"/api/v1/namespaces/{self.namespace}")["metadata"].get("labels", {})
        return found

    def pipelines(self) -> Kubeflow:
        """Return Kubeflow Pipelines, reached once for all checks.

        Raises:
            InputError: it cannot be reached, or does not let us in.
            KubeflowError: it does not answer.
        """
        key = "Kubeflow Pipelines"
        if key not in self._seen:
            namespace = self.settings.namespace or (self.cluster.namespace if self.cluster is not None else None)
            try:
                self._seen[key] = connect_pipelines(
                    self.host, namespace=namespace, patience=0.0,
                    token_file=self.token_file, cookies_file=self.cookies_file,
                )  # fmt: skip
            except (InputError, KubeflowError) as error:
                self._seen[key] = error
        found = self._seen[key]
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, Kubeflow)
        return found

    def pods(self) -> dict[str, Pod]:
        """Return what the steps of a run, their pods and the server ask for, by name."""
        searches = self.settings.tuning.trials > 0 or bool(self.wanted & {"tune", "search"})
        absent = {
            "simulate": self.settings.simulate is None, "convert": not self.settings.converts, "tune": not searches, "deploy": "deploy" not in self.wanted, "notify": self.settings.webhook is None,
        }  # fmt: skip
        asking: dict[str, Pod] = {step: self.settings.pod_of(step) for step in STEPS if not absent.get(step)}
        if self.wanted & {"tune", "search"}:
            asking["trial"] = self.settings.training_pod()
        if self.wanted & {"distribute"}:
            asking["pod of a TrainJob"] = self.settings.training_pod()
        if "deploy" in self.wanted:
            asking["server"] = self.settings.served()
        return asking

    def missing(self, *uses: Use) -> State:
        """Return how bad it is if one of the uses is not possible."""
        return "failed" if self.wanted & set(uses) else "warning"


Check = Callable[[Site], Iterable[Finding]]
