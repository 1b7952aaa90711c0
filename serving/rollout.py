"""Write an InferenceService, ask its new servers for showers, and go back unless they make the right ones."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from urllib.parse import urlsplit

from caloforge.cluster import INFERENCE_SERVICE, Cluster, ClusterError, Refused
from caloforge.errors import InputError
from caloforge.pods import in_pod
from caloforge.serving.errors import ServingError
from caloforge.serving.forward import forwarded, reachable
from caloforge.serving.inference_service import SPECIFICATION
from caloforge.serving.readiness import (
    Expected,
    Overtaken,
    ServiceEvents,
    address,
    check_ours,
    ready_pod,
    revisions,
    wait_until_served,
)
from caloforge.serving.smoke import Reference, WrongShowers, check_server

logger = logging.getLogger(__name__)

PREVIOUS = "caloforge/previous"
"""Annotation: the specification before, as JSON; null if there was none."""

RUN = "caloforge/run"
"""Annotation: the run that wrote the specification."""


class DeployFailed(ServingError):
    """The servers do not come up or answer wrongly; the message ends with what became of the service."""


class Rollout:
    """One change of an InferenceService.

    The new servers are told from the old ones by the digest in their labels. Where Knative runs them they
    get no traffic before they have answered; a Deployment replaces one pod after the other, and the query
    comes right after. KServe copies labels and annotations of the service to its pods, so that each change
    of them starts new pods: they change together with the specification only.

    Attributes:
        answer_seconds: how long servers that are ready may answer nothing, until routes to them are known.
        settle_seconds: how long traffic may take to go from one revision to the next.
    """

    answer_seconds = 60.0
    settle_seconds = 300.0

    def __init__(self, body: dict[str, Any], cluster: Cluster, *, run: str = "", keep: bool = False) -> None:
        """Take what is wanted.

        Args:
            body: the InferenceService.
            cluster: where.
            run: identity of the run; work that it left unfinished is taken up, or undone if it fails.
            keep: leave a service that failed as it is.
        """
        self._body, self._cluster, self._run, self._keep = body, cluster, run, keep
        self._name: str = body["metadata"]["name"]
        self._wanted: str = body["spec"]["predictor"]["labels"][SPECIFICATION]
        self._told: ServiceEvents | None = None
        self._created = False
        self._before: dict[str, Any] | None = None
        """Specification, labels and annotations to go back to; None if nothing was there or changed."""
        self._canary = False
        """Whether the new revision has no traffic yet."""

    def complete(
        self, reference: Reference, *, headers: Mapping[str, str] | None, timeout: float
    ) -> tuple[str, dict[str, float]]:
        """Write, wait, query, and give the new servers the traffic; after a failure all is as before.

        Args:
            reference: what the servers must answer.
            headers: sent with the query.
            timeout: seconds to wait until they are ready.

        Returns:
            Where the service answers; ``start_seconds`` and what the query measured.

        Raises:
            InputError: the cluster refuses; nothing was changed.
            DeployFailed: the servers do not come up or answer wrongly.
            ClusterError: the cluster does not answer any more.
        """
        begin = time.perf_counter()
        try:
            expected = self._write()
            item = wait_until_served(expected, self._cluster, timeout=timeout, told=self._told)
            figures = {"start_seconds": time.perf_counter() - begin}
            logger.info("%s: ready after %.0f s", self._name, figures["start_seconds"])
            with self._way(item, expected) as asked:
                figures |= self._query(asked, reference, headers)
            self._finish()
        except BaseException as error:
            changed = self._created or self._before is not None
            done = self._go_back(patient=isinstance(error, Exception)) if changed else "nothing was changed"
            if isinstance(error, ServingError) or (isinstance(error, InputError) and changed):
                raise DeployFailed(f"{error}; {done}") from error
            if changed:
                logger.warning("%s: %s", self._name, done)
            raise
        url = address(item, inside=in_pod())
        logger.info("%s: serves at %s; one shower takes %.1f ms", self._name, url, figures["latency_ms"])
        return url, figures

    @contextmanager
    def _way(self, item: dict[str, Any], expected: Expected) -> Iterator[str]:
        """Yield an address at which the new servers can be asked from here."""
        url = address(item, inside=in_pod(), newest=self._canary)
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if in_pod() or reachable(parts.hostname or "", port):
            logger.info("%s: asking %s", self._name, url)
            yield url
            return
        pod, port = ready_pod(expected, self._cluster)
        logger.info("%s: %s cannot be reached from here; asking pod %s through the API server", self._name, url, pod)
        with forwarded(self._cluster, pod, port) as here:
            yield here

    def _write(self) -> Expected:
        wanted = self._wanted
        found = self._find()
        self._told = ServiceEvents(self._name, self._cluster)
        if found is None:
            try:
                written = self._create()
            except Refused:
                raise
            except InputError:  # another run has made it at the same time: it is changed then
                if (found := self._find()) is None:
                    raise
            else:
                return Expected(self._name, written["metadata"].get("generation", 1), wanted)
        annotations = found["metadata"].get("annotations", {})
        if found["spec"]["predictor"].get("labels", {}).get(SPECIFICATION) == wanted:
            logger.info("%s: has this specification already", self._name)
            self._canary = found["spec"]["predictor"].get("canaryTrafficPercent") == 0
            if self._run and annotations.get(RUN) == self._run:  # an attempt before this one was cut off
                previous = json.loads(annotations.get(PREVIOUS, "null"))
                self._created = previous is None
                kept = {key: value for key, value in annotations.items() if key not in (PREVIOUS, RUN)}
                self._before = {"spec": previous, "metadata": {**found["metadata"], "annotations": kept}}
            return Expected(self._name, found["metadata"].get("generation", 1), wanted)
        known = revisions(found)
        self._canary = "latestRolledoutRevision" in known
        spec = deepcopy(self._body["spec"])
        if self._canary:
            spec["predictor"]["canaryTrafficPercent"] = 0
        self._before = found
        metadata = {
            "labels": self._body["metadata"]["labels"],
            "annotations": self._annotations(json.dumps(found["spec"])),
        }
        written = self._patch({"metadata": metadata, "spec": replacing(found["spec"], spec)})
        logger.info("%s: changed", self._name)
        generation = written["metadata"].get("generation", 1)
        return Expected(self._name, generation, wanted, revision=known.get("latestCreatedRevision"))

    def _create(self) -> dict[str, Any]:
        body = deepcopy(self._body)
        body["metadata"]["annotations"] = self._annotations("null")
        self._created = True  # an interruption may come before the answer does
        try:
            created = self._cluster.create(INFERENCE_SERVICE, body)
        except InputError:
            self._created = False
            raise
        logger.info("%s: created", self._name)
        return created

    def _annotations(self, previous: str) -> dict[str, str]:
        return {**self._body["metadata"]["annotations"], PREVIOUS: previous, RUN: self._run}

    def _patch(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Change the service; a conflict with a controller's change passes."""
        for _ in range(5):
            try:
                return self._cluster.patch(INFERENCE_SERVICE, self._name, changes)
            except Refused as error:
                if error.status != 409:
                    raise
                time.sleep(self._cluster.poll_seconds)
        return self._cluster.patch(INFERENCE_SERVICE, self._name, changes)

    def _find(self) -> dict[str, Any] | None:
        """Return the service that is there; one that is being deleted is waited for to go."""
        try:
            for item in self._cluster.watch(INFERENCE_SERVICE, self._name, timeout=self.settle_seconds):
                if "deletionTimestamp" not in item["metadata"]:
                    return item
                logger.info("%s: is being deleted", self._name)
        except Refused as error:
            if error.status != 404:
                raise
        except TimeoutError:
            text = f"InferenceService {self._name} is being deleted and does not go; see its finalizers"
            raise InputError(text) from None
        return None

    def _query(self, url: str, reference: Reference, headers: Mapping[str, str] | None) -> dict[str, float]:
        deadline = time.monotonic() + self.answer_seconds
        while True:
            try:
                return check_server(url, reference, headers=headers)
            except WrongShowers:
                raise
            except (InputError, ServingError) as error:
                if time.monotonic() > deadline:
                    raise
                logger.info("%s; asking again", error)
            time.sleep(min(1.0, self._cluster.poll_seconds))

    def _finish(self) -> None:
        """Give the newest revision all traffic."""
        if not self._canary:
            return
        self._patch({"spec": {"predictor": {"canaryTrafficPercent": None}}})
        try:
            for item in self._cluster.watch(INFERENCE_SERVICE, self._name, timeout=self.settle_seconds):
                known = revisions(item)
                if known.get("latestRolledoutRevision") == known.get("latestReadyRevision"):
                    return
        except TimeoutError:
            logger.warning("%s: traffic has not yet moved to the newest revision", self._name)

    def _go_back(self, *, patient: bool) -> str:
        """Undo what was changed, and say so.

        Args:
            patient: whether there is time to wait for the traffic to come back.
        """
        show = f"kubectl describe inferenceservice {self._name} --namespace {self._cluster.namespace}"
        if self._keep:
            return f"left as it is: {show}"
        try:
            check_ours(self._cluster.get(INFERENCE_SERVICE, self._name), self._wanted)
        except Overtaken:
            return "it is left to them"
        except (InputError, ClusterError):
            pass  # what follows says what it meets
        if self._created:
            gone = self._cluster.delete(INFERENCE_SERVICE, self._name)
            return "deleted again" if gone else f"could not be deleted: {show}"
        assert self._before is not None
        spec, old = deepcopy(self._before["spec"]), self._before["metadata"]
        ours = {"labels": self._body["metadata"]["labels"], "annotations": self._annotations("")}
        metadata = {kind: {key: old.get(kind, {}).get(key) for key in keys} for kind, keys in ours.items()}
        try:
            current = self._cluster.get(INFERENCE_SERVICE, self._name)
            if self._canary:
                spec["predictor"]["canaryTrafficPercent"] = 0  # traffic stays where it is until the pods are there
            written = self._patch({"metadata": metadata, "spec": replacing(current["spec"], spec)})
            if self._canary:
                self._bring_back(current, written["metadata"].get("generation", 1), patient=patient)
        except (InputError, ServingError, ClusterError) as error:
            logger.warning("%s", error)
            return f"going back failed; the specification before is in the annotation {PREVIOUS}: {show}"
        return "the specification before is there again"

    def _bring_back(self, current: dict[str, Any], generation: int, *, patient: bool) -> None:
        """Wait for the revision of the old specification, and let traffic follow the newest revision again."""
        if not patient:
            command = self._cluster.command("patch", INFERENCE_SERVICE, self._name)
            changes = '\'{"spec": {"predictor": {"canaryTrafficPercent": null}}}\''
            logger.warning("traffic stays on the revision before, until: %s --type merge --patch %s", command, changes)
            return
        expected = Expected(self._name, generation, "", revision=revisions(current).get("latestCreatedRevision"))
        wait_until_served(expected, self._cluster, timeout=self.settle_seconds)
        self._finish()


def replacing(old: Any, new: Any) -> Any:
    """Return the merge patch (RFC 7396) that turns ``old`` into ``new``: what is gone becomes None."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    changes = {key: replacing(old.get(key), value) for key, value in new.items() if old.get(key) != value}
    return {**changes, **{key: None for key in old if key not in new}}
