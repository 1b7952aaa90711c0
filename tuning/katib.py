"""Give an Experiment to Katib on a cluster, wait for it, and bring its trials home."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any

from kubernetes import client
from kubernetes import config as cluster_config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from caloforge.errors import InputError
from caloforge.tuning.experiment import parameter_path
from caloforge.tuning.objective import TrialFailed
from caloforge.tuning.result import State, Trial, Tuning
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import parse_value

logger = logging.getLogger(__name__)

GROUP, VERSION = "kubeflow.org", "v1beta1"
DIGEST = "caloforge/experiment"
"""Label by which a tuning knows its own experiment again."""

POLL_SECONDS = 10.0
PATIENCE_SECONDS = 300.0
"""An API server that does not answer for so long is given up."""

_STATES: dict[str, State] = {"Succeeded": "succeeded", "EarlyStopped": "stopped early"}
_ENDS = {"Succeeded", "EarlyStopped", "Failed", "MetricsUnavailable", "Killed"}
_PLAIN = re.compile(r"[\w@%+=:,./$\{\}-]*", re.ASCII)
"""Katib joins the command with spaces and gives it to a shell."""


def connect() -> client.CustomObjectsApi:
    """Return the API of the cluster that this runs in, or that the kubeconfig names.

    Raises:
        InputError: there is neither.
    """
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            cluster_config.load_incluster_config()
        else:
            cluster_config.load_kube_config()
    except cluster_config.ConfigException as error:
        text = f"no cluster: {error}; set KUBECONFIG, or tune on this machine with --backend local"
        raise InputError(text) from None
    return client.CustomObjectsApi()


def run_on_katib(
    experiment: dict[str, Any],
    api: client.CustomObjectsApi,
    *,
    timeout: float | None = None,
    poll_seconds: float = POLL_SECONDS,
    patience: float = PATIENCE_SECONDS,
) -> Tuning:
    """Create the Experiment, wait for its end and delete it, whatever happens.

    An Experiment of the same name and content that is there already is waited for, so that a step
    that is tried again does not begin anew.

    Args:
        experiment: the Experiment.
        api: the cluster.
        timeout: seconds to wait in all; without it as long as it takes.
        poll_seconds: time between two looks.
        patience: seconds without an answer of the API server that are borne.

    Raises:
        InputError: Katib would refuse the experiment, is not there, or may not be used.
        TrialFailed: the experiment failed or took too long.
    """
    check_experiment(experiment)
    _check_command(experiment)
    return _Katib(experiment, api, poll_seconds=poll_seconds, patience=patience).run(timeout)


class _Katib:
    """One Experiment on a cluster."""

    def __init__(
        self, experiment: dict[str, Any], api: client.CustomObjectsApi, *, poll_seconds: float, patience: float
    ) -> None:
        self.experiment = deepcopy(experiment)
        self.digest = hashlib.sha256(json.dumps(experiment, sort_keys=True).encode()).hexdigest()[:32]
        self.experiment["metadata"]["labels"] = {DIGEST: self.digest}
        self.name: str = experiment["metadata"]["name"]
        self.namespace: str = experiment["metadata"]["namespace"]
        self.api, self.poll_seconds, self.patience = api, poll_seconds, patience

    def run(self, timeout: float | None) -> Tuning:
        self._create()
        try:
            self._wait(timeout)
            return self._result()
        finally:
            self._delete()

    def _create(self) -> None:
        try:
            self._ask(self.api.create_namespaced_custom_object, "experiments", body=self.experiment)
        except ApiException as error:
            if error.status != 409:
                raise self._explained("create", error) from None
            self._adopt()

    def _adopt(self) -> None:
        """See that the experiment of this name is ours, made by an attempt before."""
        found = self._get()
        if found["metadata"].get("labels", {}).get(DIGEST) != self.digest:
            text = (
                f"experiment {self.name!r} in namespace {self.namespace!r} is there with other content; delete it: "
                f"kubectl delete experiment {self.name} --namespace {self.namespace}"
            )
            raise InputError(text)
        logger.info("%s: is there from an earlier attempt", self.name)

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        shown = ""
        while True:
            status = self._get().get("status", {})
            counts = {key: status.get(f"trials{key}", 0) for key in ("Succeeded", "Failed", "Running")}
            progress = ", ".join(f"{count} {key.lower()}" for key, count in counts.items())
            if progress != shown:
                logger.info("%s: trials: %s", self.name, progress)
                shown = progress
            for condition in status.get("conditions", []):
                if condition["status"] != "True":
                    continue
                if condition["type"] == "Succeeded":
                    return
                if condition["type"] == "Failed":
                    text = f"experiment {self.name} failed: {condition.get('reason')}: {condition.get('message')}"
                    raise TrialFailed(text)
            if deadline is not None and time.monotonic() > deadline:
                hint = f"kubectl get trials --namespace {self.namespace}" if not counts["Running"] else progress
                raise TrialFailed(f"experiment {self.name} is not done after {timeout:g} s ({hint})")
            time.sleep(self.poll_seconds)

    def _result(self) -> Tuning:
        selector = f"katib.kubeflow.org/experiment={self.name}"
        try:
            found = self._ask(self.api.list_namespaced_custom_object, "trials", label_selector=selector)
        except ApiException as error:
            raise self._explained("list the trials of", error) from None
        objective = self.experiment["spec"]["objective"]
        name = objective["objectiveMetricName"]
        strategies = {entry["name"]: entry["value"] for entry in objective["metricStrategies"]}
        trials = [_trial(item, name, strategies) for item in found["items"] if _reached(item) & _ENDS]
        trials.sort(key=lambda trial: trial.name)
        result = Tuning(name, objective["type"] == "maximize", trials)
        if not result.ranked:
            text = (
                f"experiment {self.name}: no trial gave {name}; does the namespace {self.namespace!r} have the label "
                "katib.kubeflow.org/metrics-collector-injection=enabled?"
            )
            raise TrialFailed(text)
        return result

    def _get(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._ask(self.api.get_namespaced_custom_object, "experiments", name=self.name)
        except ApiException as error:
            raise self._explained("read", error) from None
        return found

    def _delete(self) -> None:
        try:
            self.api.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, "experiments", self.name)
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) != 404:
                logger.warning(
                    "%s: could not be deleted (%s): kubectl delete experiment %s --namespace %s",
                    self.name, _reason(error), self.name, self.namespace,
                )  # fmt: skip

    def _ask(self, call: Callable[..., Any], plural: str, **arguments: Any) -> Any:
        """Call the API server; ask again while it is overloaded, broken or away."""
        start, pause = time.monotonic(), min(1.0, self.poll_seconds)
        while True:
            try:
                return call(GROUP, VERSION, self.namespace, plural, **arguments)
            except (ApiException, HTTPError) as error:
                if isinstance(error, ApiException) and error.status not in (429, 500, 502, 503, 504):
                    raise
                if time.monotonic() - start > self.patience:
                    text = f"the cluster has not answered for {self.patience:g} s: {_reason(error)}"
                    raise TrialFailed(text) from None
                logger.warning("%s: %s; asking again", self.name, _reason(error))
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def _explained(self, verb: str, error: ApiException) -> InputError:
        what = f"cannot {verb} experiment {self.name!r} in namespace {self.namespace!r}"
        if error.status == 401:
            return InputError(f"{what}: the cluster does not know who asks; log in again")
        if error.status == 403:
            return InputError(f"{what}: forbidden; apply manifests/rbac there, or take your profile's namespace")
        if error.status == 404:
            return InputError(
                f"{what}: it is not there, or Katib is not installed (kubectl get crd experiments.{GROUP})"
            )
        return InputError(f"{what}: {_reason(error)}")


def _trial(item: dict[str, Any], objective: str, strategies: Mapping[str, str]) -> Trial:
    status = item.get("status", {})
    metrics = {}
    for metric in status.get("observation", {}).get("metrics", []):
        value = parse_value(str(metric.get(strategies.get(metric["name"], "latest"), "")))
        if isinstance(value, int | float):  # not the text "unavailable"
            metrics[metric["name"]] = float(value)
    state: State = next((_STATES[kind] for kind in _STATES if kind in _reached(item)), "failed")
    if state == "succeeded" and objective not in metrics:
        state = "failed"
    given = item["spec"]["parameterAssignments"]
    parameters = {parameter_path(entry["name"]): parse_value(entry["value"]) for entry in given}
    start, end = status.get("startTime"), status.get("completionTime")
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() if start and end else None
    return Trial(item["metadata"]["name"], state, parameters, metrics, seconds)


def _reached(item: dict[str, Any]) -> set[str]:
    return {entry["type"] for entry in item.get("status", {}).get("conditions", []) if entry["status"] == "True"}


def _check_command(experiment: dict[str, Any]) -> None:
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    for container in pod["containers"]:
        for word in (*container["command"], *container.get("args", [])):
            if not _PLAIN.fullmatch(word):
                raise InputError(f"{word!r}: Katib passes the command through a shell; use letters, digits and ./_-=")


def _reason(error: Exception) -> str:
    """Return one line of what went wrong; the body of an answer may be a page of HTML."""
    if not isinstance(error, ApiException):
        return f"{type(error).__name__}: {error}"
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    return f"{error.status} {message}"
