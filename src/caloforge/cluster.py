"""Ask a Kubernetes cluster: one way to connect, to bear its faults and to explain its refusals."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml
from kubernetes import client
from kubernetes import config as cluster_config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from caloforge.errors import InputError
from caloforge.network import ca_file, check_address, lasting_problem, proxy_of
from caloforge.patience import PASSING, PATIENCE_SECONDS, Patience
from caloforge.pods import ACCOUNT, digest_of
from caloforge.secrets import checked_secret, masked

logger = logging.getLogger(__name__)

DIGEST = "caloforge/digest"
"""Label by which a step that is tried again knows an object that its first attempt made."""

POLL_SECONDS = 10.0
REQUEST_SECONDS = (10.0, 60.0)
"""How long a connection and an answer may take."""


@dataclass(frozen=True)
class Kind:
    """A kind of object.

    Attributes:
        group: its API group.
        version: of the group.
        plural: name in addresses.
        name: as objects have it.
        product: what must be installed for it.
    """

    group: str
    version: str
    plural: str
    name: str
    product: str

    @property
    def api_version(self) -> str:
        """Group and version, as objects have them."""
        return f"{self.group}/{self.version}"


EXPERIMENT = Kind("kubeflow.org", "v1beta1", "experiments", "Experiment", "Katib")
TRIAL = Kind("kubeflow.org", "v1beta1", "trials", "Trial", "Katib")
INFERENCE_SERVICE = Kind("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService", "KServe")
TRAIN_JOB = Kind("trainer.kubeflow.org", "v1alpha1", "trainjobs", "TrainJob", "Kubeflow Trainer 2")
OPTIMIZATION_JOB = Kind(
    "trainer.kubeflow.org", "v1alpha1", "optimizationjobs", "OptimizationJob", "Kubeflow Trainer with OptimizationJobs"
)

_NOT_FOR_RIGHTS = ("denied the request", "exceeded quota")
"""What webhooks and quotas say with the status of missing rights."""


class ClusterError(RuntimeError):
    """The cluster does not answer any more."""


class Refused(InputError):
    """The cluster refused a request; ``status`` is the HTTP status."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def connect(namespace: str | None = None, *, context: str | None = None) -> Cluster:
    """Return the cluster that this runs in, or that the kubeconfig names.

    Args:
        namespace: where to work; without it the pod's, or that of the kubeconfig's context.
        context: of the kubeconfig; without it the current one.

    Raises:
        InputError: there is neither, or there is no such context.
    """
    configuration = client.Configuration()
    configuration.retries = False  # we ask again ourselves, and say so
    try:
        if context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            cluster_config.load_incluster_config(client_configuration=configuration)
            default = (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
        else:
            cluster_config.load_kube_config(context=context, client_configuration=configuration)
            contexts, active = cluster_config.list_kube_config_contexts()
            chosen = next((one for one in contexts if one["name"] == context), active)
            default = chosen["context"].get("namespace", "default")
    except (cluster_config.ConfigException, OSError) as error:
        raise InputError(f"no cluster: {error}; set KUBECONFIG, or use the local backend") from None
    # What the client makes of a kubeconfig that is HTML, a list, cut off, or holds texts for maps.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        said = masked(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
        text = f"no cluster: the kubeconfig is damaged ({said}); set KUBECONFIG, or use the local backend"
        raise InputError(text) from None
    check_address(configuration.host)
    if context is not None or "KUBERNETES_SERVICE_HOST" not in os.environ:
        configuration.ssl_ca_cert = configuration.ssl_ca_cert or ca_file()
        if configuration.proxy is None and (proxy := proxy_of(configuration.host)):
            configuration.proxy, configuration.proxy_headers = proxy
    if token := (configuration.api_key or {}).get("authorization", ""):
        checked_secret(token, where="the kubeconfig's token", what="header")
    return Cluster(client.ApiClient(configuration), namespace or default)


class Cluster:
    """One namespace of a cluster.

    Faults that pass (429, 5xx, broken connections) are borne for ``patience`` seconds; each method
    raises :class:`ClusterError` after that, and :class:`Refused` with a text that says what to do
    when the cluster does not want to.

    Attributes:
        api: connection, for what this class has no method for.
        namespace: where objects are.
        poll_seconds: time between two looks at an object that is waited for.
        patience: seconds without an answer that are borne.
        request_seconds: how long a connection and an answer may take.
    """

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        *,
        poll_seconds: float = POLL_SECONDS,
        patience: float = PATIENCE_SECONDS,
        request_seconds: tuple[float, float] = REQUEST_SECONDS,
    ) -> None:
        self.api, self.namespace = api, namespace
        self._request_seconds = request_seconds
        self.poll_seconds, self.patience = poll_seconds, patience
        self._objects = client.CustomObjectsApi(api)

    def create(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object with the digest of its content as a label.

        An object of the same name and content that is there already is taken as ours: an attempt
        before, or a request whose answer was lost, made it. A process that is stopped meanwhile deletes it.

        Raises:
            InputError: an object of that name and other content is there.
        """
        name: str = body["metadata"]["name"]
        digest = digest_of(body)
        body = deepcopy(body)
        body["metadata"].setdefault("labels", {})[DIGEST] = digest
        try:
            return self._ask("create", kind, name, self._objects.create_namespaced_custom_object, body=body)
        except Refused as error:
            if error.status != 409:
                raise
        except (KeyboardInterrupt, SystemExit):
            self._take_back(kind, name, digest)
            raise
        try:
            found = self._settled(kind, name)
        except Refused as error:
            if error.status != 404:
                raise
            # What was in the way was being deleted, and is gone now.
            return self._ask("create", kind, name, self._objects.create_namespaced_custom_object, body=body)
        if found["metadata"].get("labels", {}).get(DIGEST) != digest:
            text = (
                f"{kind.name} {name!r} in namespace {self.namespace!r} is there with other content; delete it: "
                f"{self.command('delete', kind, name)}"
            )
            raise InputError(text)
        logger.info("%s: is there from an earlier attempt", name)
        return found

    def _take_back(self, kind: Kind, name: str, digest: str) -> None:
        """Delete an object that a request may have made whose answer nobody waits for any more."""
        try:
            found = self.get(kind, name)
        except (Refused, ClusterError):
            return
        if found["metadata"].get("labels", {}).get(DIGEST) == digest:
            self.delete(kind, name)

    def _settled(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return an object that is not being deleted, or wait until it is gone."""
        for item in self.watch(kind, name, timeout=self.patience):
            if "deletionTimestamp" not in item["metadata"]:
                break
        return item

    def get(self, kind: Kind, name: str) -> dict[str, Any]:
        """Return an object."""
        return self._ask("read", kind, name, self._objects.get_namespaced_custom_object, name=name)

    def find(self, kind: Kind, *, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects whose labels fit."""
        call = self._objects.list_namespaced_custom_object
        items: list[dict[str, Any]] = self._ask("list", kind, "", call, label_selector=selector)["items"]
        return items

    def patch(self, kind: Kind, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """Merge changes into an object (JSON merge patch: None removes a key)."""
        call = self._objects.patch_namespaced_custom_object
        return self._ask("change", kind, name, call, name=name, body=changes)

    def delete(self, kind: Kind, name: str) -> bool:
        """Delete an object; what hinders is only said, because the step ends in any case.

        Returns:
            Whether it is gone; one that was gone before is fine.
        """
        try:
            self._ask("delete", kind, name, self._objects.delete_namespaced_custom_object, name=name)
        except (Refused, ClusterError) as error:
            if getattr(error, "status", None) != 404:
                logger.warning("%s; do it yourself: %s", error, self.command("delete", kind, name))
                return False
        return True

    def watch(self, kind: Kind, name: str, *, timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """Yield an object again and again until the caller has seen enough.

        Raises:
            TimeoutError: it went on for longer than ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = min(1.0, self.poll_seconds)  # what is over soon is seen soon
        while True:
            yield self.get(kind, name)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{kind.name} {name} is not done after {timeout:g} s")
            time.sleep(pause)
            pause = min(1.5 * pause, self.poll_seconds)

    def events(self, prefix: str) -> list[str]:
        """Return the latest events of objects whose name begins so, oldest first; none if they may not be read."""
        try:
            found = self.all_events()
        except (Refused, ClusterError) as error:
            logger.warning("events cannot be read: %s", error)
            return []
        return [event_line(event) for event in found if event["involvedObject"]["name"].startswith(prefix)][-20:]

    def all_events(self) -> list[dict[str, Any]]:
        """Return the namespace's events, oldest first."""
        found: list[dict[str, Any]] = self.request("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        found.sort(key=lambda event: str(event.get("lastTimestamp") or event["metadata"].get("creationTimestamp")))
        return found

    def command(self, verb: str, kind: Kind, name: str) -> str:
        """Return the kubectl command for what could not be done."""
        return f"kubectl {verb} {kind.plural}.{kind.group} {name} --namespace {self.namespace}"

    def request(self, method: str, path: str, *, body: Any = None, **query: str | int) -> Any:
        """Return what the API server answers at an address that no other method is for.

        Args:
            method: GET, POST, ...
            path: e.g. ``/api/v1/nodes``.
            body: sent as JSON.
            query: of the address.

        Returns:
            The object, or the text of a log.
        """
        call = partial(
            self.api.call_api, path, method, body=body, query_params=list(query.items()),
            header_params={"Accept": "application/json, */*"}, auth_settings=["BearerToken"],
            response_type="object", _preload_content=False, _return_http_data_only=True,
            _request_timeout=self._request_seconds,
        )  # fmt: skip

        def refused(error: ApiException) -> Refused:
            return Refused(f"{method} {path}: {reason(error)}", error.status)

        answer = self._persist(path, call, refused)
        text = answer.data.decode(errors="replace")
        if path.endswith("/log"):
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Refused(f"{method} {path}: the answer is no JSON; is this a Kubernetes API server?", 200) from None

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods whose labels fit."""
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        found: list[dict[str, Any]] = self.request("GET", path, labelSelector=selector)["items"]
        return found

    def log(self, pod: str, container: str, **query: str | int) -> str:
        """Return a container's log; ``query`` as the API server has it, e.g. ``sinceSeconds``."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        return str(self.request("GET", path, container=container, **query))

    def log_tail(self, pod: str, container: str, *, lines: int = 20) -> str:
        """Return the end of a container's log, empty if it may not be read or the container has not run."""
        try:
            return self.log(pod, container, tailLines=lines).strip()
        except (Refused, ClusterError) as error:
            logger.warning("%s", error)
            return ""

    def _ask(self, verb: str, kind: Kind, name: str, call: Callable[..., Any], /, **arguments: Any) -> dict[str, Any]:
        answer = self._persist(
            name or kind.plural,
            partial(
                call,
                kind.group,
                kind.version,
                self.namespace,
                kind.plural,
                _request_timeout=self._request_seconds,
                **arguments,
            ),
            partial(self._refused, verb, kind, name),
        )
        if not isinstance(answer, dict):
            raise InputError(f"{self.api.configuration.host}: answers, but not as a Kubernetes API server")
        return answer

    def _persist(self, what: str, call: Callable[[], Any], refused: Callable[[ApiException], Refused]) -> Any:
        """Call the API server; ask again while it is overloaded, broken or away."""
        patience = Patience(self.patience, first=self.poll_seconds)
        while True:
            try:
                return call()
            except (ApiException, HTTPError) as error:
                if problem := lasting_problem(error):
                    raise InputError(f"{self.api.configuration.host}: {problem}") from None
                if isinstance(error, ApiException) and error.status not in {410, *PASSING}:
                    raise refused(error) from None
                if not patience.wait(f"{what}: {reason(error)}"):
                    text = f"the cluster has not answered for {self.patience:g} s: {reason(error)}"
                    raise ClusterError(text) from None

    def _refused(self, verb: str, kind: Kind, name: str, error: ApiException) -> Refused:
        what = f"cannot {verb} {kind.name} {name!r}" if name else f"cannot {verb} {kind.plural}"
        what += f" in namespace {self.namespace!r}"
        text = {
            401: "the cluster does not know who asks; log in again",
            403: "forbidden; apply manifests/rbac there, or take your profile's namespace",
            404: f"it is not there, or {kind.product} is not installed (kubectl get crd {kind.plural}.{kind.group})",
        }.get(error.status, reason(error))
        if error.status == 403 and any(other in reason(error) for other in _NOT_FOR_RIGHTS):
            text = reason(error)
        return Refused(f"{what}: {text}", error.status)


def conditions(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the conditions in an object's status by their type."""
    return {entry["type"]: entry for entry in item.get("status", {}).get("conditions", [])}


def event_line(event: dict[str, Any]) -> str:
    """Return an event in one line."""
    involved = event["involvedObject"]
    return f"{involved.get('kind')} {involved['name']}: {event.get('reason')}: {event.get('message')}"


def reason(error: Exception) -> str:
    """Return one line of what went wrong; the body of an answer may be a page of HTML."""
    if not isinstance(error, ApiException):
        return masked(f"{type(error).__name__}: {error}")
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    return masked(f"{error.status} {message}")
