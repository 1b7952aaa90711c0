"""KServe's side is played by a controller on a local API server; who answers queries is our real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kserve_controller import KServe
from kubernetes_api import KubernetesApi, assert_granted, connected, running
from recorded_objects import recorded, shape
from stopping import stop_while_waiting

from caloforge.cluster import Cluster, ClusterError
from caloforge.errors import InputError
from caloforge.models.agreement import TOLERANCE
from caloforge.serving.inference_service import ServiceSettings, inference_service
from caloforge.serving.rollout import DeployFailed, Rollout, replacing
from caloforge.serving.smoke import Reference, WrongShowers, reference_showers

pytestmark = pytest.mark.slow

OLD = {"predictor": {"minReplicas": 2, "labels": {"who": "a colleague"}, "model": {"storageUri": "s3://bucket/old"}}}


@pytest.fixture(scope="module")
def reference(tiny_bundle: Path) -> Reference:
    return reference_showers(tiny_bundle, seed=4)


@pytest.fixture(scope="module")
def rubbish() -> Iterator[str]:
    """Something that answers all queries with a page of HTML."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        do_GET = do_POST = _serve

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with running(KubernetesApi("inferenceservices")) as api:
        yield api
    assert_granted(api)


@pytest.fixture(params=[False, True], ids=["standard", "knative"])
def kserve(request: pytest.FixtureRequest, api: KubernetesApi, server: Any) -> KServe:
    return KServe(api, server.url, knative=request.param)


@pytest.fixture
def cluster(api: KubernetesApi) -> Iterator[Cluster]:
    with connected(api) as cluster:
        yield cluster


def wanted(uri: str = "s3://bucket/new") -> dict[str, Any]:
    return inference_service("calo", uri, ServiceSettings())


def roll_out(cluster: Cluster, reference: Reference, body: dict[str, Any] | None = None, **options: Any) -> Any:
    rollout = Rollout(body or wanted(), cluster, **options)
    rollout.answer_seconds, rollout.settle_seconds = 0.05, 1.0
    return rollout.complete(reference, headers=None, timeout=5)


def put_old(api: KubernetesApi, cluster: Cluster) -> None:
    """Put a service there that somebody made by hand, and let it come up."""
    api.add("inferenceservices", {"metadata": {"name": "calo"}, "spec": OLD})
    for _ in range(5):
        api.answer("GET", "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices/calo", None)


def spec(api: KubernetesApi) -> dict[str, Any]:
    (service,) = api.of("inferenceservices")
    return dict(service["spec"])


def test_a_new_service(api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference) -> None:
    url, figures = roll_out(cluster, reference)
    assert url == kserve.url
    assert figures["max_relative_difference"] <= TOLERANCE
    assert figures["latency_ms"] > 0
    assert spec(api) == wanted()["spec"]
    assert len(kserve.revisions) == 1, "nothing was changed after the query, which would start new pods"


def test_an_update(api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference) -> None:
    put_old(api, cluster)
    roll_out(cluster, reference)
    assert spec(api) == wanted()["spec"], "what the old one had and the new one has not is gone"
    assert kserve.traffic == ["s3://bucket/old", "s3://bucket/new"]
    assert len(kserve.revisions) == 2
    (service,) = api.of("inferenceservices")
    assert json.loads(service["metadata"]["annotations"]["caloforge/previous"]) == OLD


def test_the_same_again_starts_no_new_servers(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference
) -> None:
    for run in ("first", "second"):
        roll_out(cluster, reference, run=run)
    assert len(kserve.revisions) == 1


def test_old_servers_are_not_asked(api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference) -> None:
    """The condition Ready of a Deployment is true while its pods are being replaced."""
    kserve = KServe(api, server.url)
    kserve.urls["s3://bucket/old"] = "http://old.invalid"
    put_old(api, cluster)
    kserve.looks = 10
    url, _ = roll_out(cluster, reference)
    assert url == server.url


@pytest.mark.parametrize(
    "script",
    [
        [429, 500],
        ["none", 503, "reset", 502],
        ["none", "none", 410],
        ["none", "lost"],
        ["none", 409],
        ["none", "none", 500, "none", "reset", 504],
    ],
)
def test_a_shaky_server(
    script: list[int | str], api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference
) -> None:
    KServe(api, server.url)
    api.script = list(script)
    assert roll_out(cluster, reference)[0] == server.url
    assert not api.script


def test_a_conflict_while_it_is_changed(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference
) -> None:
    put_old(api, cluster)
    api.script = ["none", 409, "lost", 429]
    roll_out(cluster, reference)
    assert spec(api) == wanted()["spec"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [(403, "forbidden"), (401, "log in again"), (404, "KServe is not installed")],
)
@pytest.mark.parametrize("before", [0, 2])
def test_refusals(
    fault: int, message: str, before: int, api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference
) -> None:
    KServe(api, server.url)
    api.script = [*["none"] * before, fault, *(["none", 404] if fault == 404 else [])]
    with pytest.raises(InputError, match=message):
        roll_out(cluster, reference)
    assert not api.of("inferenceservices")


def test_kserve_is_not_there(cluster: Cluster, api: KubernetesApi, reference: Reference) -> None:
    api.kinds.discard("inferenceservices")
    with pytest.raises(InputError, match=r"KServe is not installed \(kubectl get crd inferenceservices.serving"):
        roll_out(cluster, reference)


def test_a_refusal_while_it_comes_up_leaves_nothing(
    api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference
) -> None:
    KServe(api, server.url)
    api.script = ["none", "none", "none", 403]  # after the search, the events before and the creation
    with pytest.raises(DeployFailed, match="deleted again"):
        roll_out(cluster, reference)
    assert not api.of("inferenceservices")


def test_a_cluster_that_goes_away(api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference) -> None:
    KServe(api, server.url)
    cluster.patience = 0.05
    api.script = ["none", "none", "none", *[503] * 4]
    with pytest.raises(ClusterError):
        roll_out(cluster, reference)
    assert not api.of("inferenceservices")


def test_servers_that_never_come(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    kserve.broken = {"s3://bucket/new"}
    event = an_event("Pod", "calo-predictor-1", "Insufficient nvidia.com/gpu", reason="FailedScheduling")
    api.admission["inferenceservices"] = lambda _: api.add("events", event) and None
    with pytest.raises(DeployFailed, match=r"calo: not ready after 0\.1 s .*no server yet.*deleted again"):
        Rollout(wanted(), cluster).complete(reference, headers=None, timeout=0.1)
    assert "condition Ready: False MinimumReplicasUnavailable: no server yet" in caplog.text
    assert "event Pod calo-predictor-1: FailedScheduling: Insufficient nvidia.com/gpu" in caplog.text
    assert not api.of("inferenceservices")


@pytest.mark.parametrize(
    ("waiting", "restarts", "died", "told"),
    [
        ({"reason": "ImagePullBackOff", "message": "so says the node"}, 0, {}, "ImagePullBackOff: so says the node"),
        (
            {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'}, 0, {},
            'CreateContainerConfigError: secret "s3" not found',
        ),
        (
            {"reason": "CrashLoopBackOff", "message": "back-off 20s"}, 1,
            {"reason": "OOMKilled", "exitCode": 137}, "OOMKilled: memory is 4G",
        ),
        (
            {"reason": "CrashLoopBackOff", "message": "back-off 40s"}, 3,
            {"reason": "Error", "exitCode": 2, "message": "12:00:00 started\nError: /mnt/models: no bundle\n"},
            "exit code 2: Error: /mnt/models: no bundle",
        ),
        (
            {"reason": "CrashLoopBackOff", "message": "back-off 40s"}, 2,
            {"reason": "ContainerCannotRun", "exitCode": 127}, "ContainerCannotRun (exit code 127)",
        ),
    ],
)  # fmt: skip
def test_servers_that_cannot_come_are_not_waited_for(
    waiting: dict[str, str],
    restarts: int,
    died: dict[str, Any],
    told: str,
    api: KubernetesApi,
    kserve: KServe,
    cluster: Cluster,
    reference: Reference,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put_old(api, cluster)
    kserve.broken = {"s3://bucket/new"}
    kserve.waiting, kserve.restarts, kserve.died = waiting, restarts, died
    api.logs["calo-predictor-2"] = "no such bundle"
    with pytest.raises(DeployFailed) as error:
        roll_out(cluster, reference)
    expected = f"InferenceService calo: container kserve-container: {told}; the specification before is there again"
    assert str(error.value) == expected
    assert "no such bundle" in caplog.text
    assert spec(api) == OLD
    assert set(kserve.traffic) == {"s3://bucket/old"}


def an_event(kind: str, name: str, message: str, *, count: int = 1, reason: str = "Because") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.{kind.lower()}"},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": message,
        "count": count,
        "lastTimestamp": f"2026-01-01T00:00:0{count}Z",
    }


def test_events_are_those_of_the_service_and_of_this_deployment(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    kserve.broken = {"s3://bucket/new"}
    for kind, name in (("ReplicaSet", "calo-predictor-5f8f5bdcf6"), ("Deployment", "calo-predictor")):
        api.add("events", an_event(kind, name, "of the last deployment"))
    told = [
        an_event("Pod", "calo-predictor-1", "ours 1"),
        an_event("ReplicaSet", "calo-predictor-5f8f5bdcf6", "ours 2, again", count=2),
        an_event("InferenceService", "calo", "ours 3"),
        an_event("Revision", "calo-predictor-00001", "ours 4"),
        an_event("Pod", "calo-predictor-5f8f5bdcf6-zzzzz", "a pod of before"),
        an_event("Pod", "calo-other-predictor-1", "others 1"),
        an_event("Pod", "calorimeter-predictor-1", "others 2"),
        an_event("InferenceService", "calo-predictors", "others 3"),
        an_event("Pod", "calo-train-12345", "others 4"),
    ]
    reconcile = kserve.reconcile

    def tell(item: dict[str, Any]) -> None:
        reconcile(item)
        for event in told:
            api.add("events", event)

    api.controllers["inferenceservices"] = tell
    api.script = []
    with pytest.raises(DeployFailed, match="not ready after"):
        Rollout(wanted(), cluster).complete(reference, headers=None, timeout=0.1)
    lines = [record.message for record in caplog.records if record.message.startswith("event ")]
    assert sorted(line.rpartition(": ")[2] for line in lines) == ["ours 1", "ours 2, again", "ours 3", "ours 4"]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            an_event(
                "ReplicaSet", "calo-predictor-5f8f5bdcf6", reason="FailedCreate",
                message='Error creating: pods "calo-predictor-5f8f5bdcf6-" is forbidden: error looking up service '
                'account default/servers: serviceaccount "servers" not found',
            ),
            "serviceaccount 'servers' is not there (namespace default); deleted again",
        ),
        (
            an_event(
                "Pod", "calo-predictor-1", reason="FailedMount",
                message='MountVolume.SetUp failed for volume "secret-0" : secret "krb5" not found',
            ),
            "secret 'krb5' is not there (namespace default); deleted again",
        ),
        (
            an_event(
                "Pod", "calo-predictor-1", reason="FailedScheduling",
                message='0/1 nodes are available: persistentvolumeclaim "bundles" not found.',
            ),
            "persistentvolumeclaim 'bundles' is not there (namespace default); deleted again",
        ),
    ],
)  # fmt: skip
def test_what_is_not_there(
    event: dict[str, Any],
    message: str,
    api: KubernetesApi,
    kserve: KServe,
    cluster: Cluster,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be on its way, but not for a quarter of an hour."""
    monkeypatch.setattr("caloforge.serving.readiness.GRACE_SECONDS", 0.1)
    kserve.broken = {"s3://bucket/new"}
    reconcile = kserve.reconcile

    def tell(item: dict[str, Any]) -> None:
        reconcile(item)
        api.add("events", event)
        for pod in api.of("pods") if event["involvedObject"]["kind"] == "ReplicaSet" else []:
            del api.objects["pods", "default", pod["metadata"]["name"]]

    api.controllers["inferenceservices"] = tell
    with pytest.raises(DeployFailed) as error:
        roll_out(cluster, reference)
    assert str(error.value) == f"InferenceService calo: {message}"


def test_what_is_not_there_for_new_servers(
    api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pods of before are still there, and new ones cannot be made."""
    monkeypatch.setattr("caloforge.serving.readiness.GRACE_SECONDS", 0.1)
    kserve = KServe(api, server.url)
    put_old(api, cluster)
    kserve.broken = {"s3://bucket/new"}
    reconcile = kserve.reconcile

    def tell(item: dict[str, Any]) -> None:
        reconcile(item)
        if api.objects.pop(("pods", "default", "calo-predictor-2"), None):
            api.add("events", an_event("ReplicaSet", "calo-predictor-6c7d8e", 'serviceaccount "servers" not found'))

    api.controllers["inferenceservices"] = tell
    with pytest.raises(
        DeployFailed, match=r"serviceaccount 'servers' is not there .*the specification before is there"
    ):
        roll_out(cluster, reference)


def test_what_comes_later_is_waited_for(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference
) -> None:
    kserve.looks = 6
    reconcile = kserve.reconcile

    def tell(item: dict[str, Any]) -> None:
        reconcile(item)
        api.add("events", an_event("Pod", "calo-predictor-1", 'secret "krb5" not found', reason="FailedMount"))

    api.controllers["inferenceservices"] = tell
    roll_out(cluster, reference)


def test_what_has_come_meanwhile_is_no_reason_to_give_up(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has its Secret now and takes its time, at its third try; the event is still there."""
    monkeypatch.setattr("caloforge.serving.readiness.GRACE_SECONDS", 0.05)
    kserve.looks, kserve.restarts, reconcile = 15, 2, kserve.reconcile
    kserve.died = {"reason": "Error", "exitCode": 1}

    def tell(item: dict[str, Any]) -> None:
        reconcile(item)
        api.add("events", an_event("Pod", "calo-predictor-1", 'secret "krb5" not found', reason="FailedMount"))
        for pod in api.of("pods"):
            pod["status"]["containerStatuses"][0]["state"] = {"running": {}}

    api.controllers["inferenceservices"] = tell
    roll_out(cluster, reference)


def test_a_runtime_that_is_not_there(
    api: KubernetesApi,
    server: Any,
    cluster: Cluster,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caloforge.serving.readiness.GRACE_SECONDS", 0.1)
    kserve = KServe(api, server.url)
    kserve.broken = {"s3://bucket/new"}
    kserve.model = {
        "copies": {"failedCopies": 0},
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "transitionStatus": "InvalidSpec",
        "lastFailureInfo": {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"},
    }
    body = inference_service("calo", "s3://bucket/new", ServiceSettings(runtime="caloforge-server"))
    with pytest.raises(DeployFailed, match="ServingRuntime 'caloforge-server' is not there: apply manifests/base"):
        roll_out(cluster, reference, body)


def test_the_fake_is_like_kserve(api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference) -> None:
    KServe(api, server.url)
    roll_out(cluster, reference)
    (ours,), (real,) = api.of("inferenceservices"), recorded("inferenceservice_ready")
    # The reason of a condition is there as long as there is one.
    optional = {"conditions[].reason", "conditions[].message"}
    assert set(shape(ours["status"])) | optional == set(shape(real["status"]))
    assert {one["type"] for one in ours["status"]["conditions"]} <= {
        one["type"] for one in real["status"]["conditions"]
    }
    assert set(shape(ours)) <= set(shape(real))


def test_what_a_cluster_answered(api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference) -> None:
    """Replays a service that is ready."""
    (real,) = recorded("inferenceservice_ready")
    real["status"]["url"] = server.url

    def look(item: dict[str, Any]) -> None:
        item["status"] = {**real["status"], "observedGeneration": item["metadata"]["generation"]}
        metadata = {
            "name": "calo-predictor-5f8f5bdcf6-abcde",
            "labels": {**item["spec"]["predictor"]["labels"], "serving.kserve.io/inferenceservice": "calo"},
        }
        api.add("pods", {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True"}]}})

    api.controllers["inferenceservices"] = look
    url, _ = roll_out(cluster, reference)
    assert url == server.url


@pytest.mark.parametrize("requests", [0, 1, 2, 3, 4, 6])
@pytest.mark.parametrize("there", [False, True])
def test_a_server_that_is_away_for_a_minute(
    there: bool, requests: int, api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference
) -> None:
    """Its port is closed, whatever we wait for; a minute is 0.3 s here, and patience 5 minutes 1.5 s."""
    KServe(api, server.url)
    if there:
        put_old(api, cluster)
    cluster.patience = 1.5
    api.away_at, api.away_seconds = requests, 0.3
    roll_out(cluster, reference)
    assert api.came_back.is_set(), "it was away"
    assert spec(api) == wanted()["spec"]


STOPPED = """
from caloforge.serving.readiness import Expected
from caloforge.serving.rollout import Rollout
Rollout(body, cluster).complete(None, headers=None, timeout=60)
"""


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("away_at", [None, 1, 2, 5])
def test_sigterm(
    away_at: int | None, there: bool, api: KubernetesApi, server: Any, cluster: Cluster, tmp_path: Path
) -> None:
    """What was changed is as before, if need be as soon as the server is there again."""
    kserve = KServe(api, server.url)
    kserve.broken = {"s3://bucket/new"}
    if there:
        put_old(api, cluster)
    api.away_at, api.away_seconds = away_at, 2.0

    def waits() -> bool:
        return api.away_at is None if away_at is not None else len(api.requests) > 8

    code, output = stop_while_waiting(STOPPED, wanted(), api, waits, tmp_path)
    assert code == 143, output
    assert (spec(api) == OLD) if there else (not api.of("inferenceservices"))


@pytest.mark.parametrize("created", [False, True])
def test_another_run_that_deploys_under_the_name(
    created: bool, api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference
) -> None:
    """The first says so, and leaves the service to the second."""
    if not created:
        put_old(api, cluster)
    kserve.looks, reconcile = 10, kserve.reconcile
    theirs = wanted("s3://bucket/third")
    left = [3]

    def interfere(item: dict[str, Any]) -> None:
        reconcile(item)
        left[0] -= 1
        if left[0] == 0:
            item["spec"] = theirs["spec"]
            item["metadata"]["annotations"]["caloforge/run"] = "b"

    api.controllers["inferenceservices"] = interfere
    text = "InferenceService calo: run b has changed it meanwhile; give each run its own name; it is left to them"
    with pytest.raises(DeployFailed) as error:
        roll_out(cluster, reference, run="a")
    assert str(error.value) == text
    assert spec(api) == theirs["spec"]


def test_wrong_showers_of_another_run_are_not_taken_back(
    api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    KServe(api, server.url)
    theirs = wanted("s3://bucket/third")

    def answer(*_: Any, **__: Any) -> Any:
        (service,) = api.of("inferenceservices")
        service["spec"] = theirs["spec"]
        raise WrongShowers("showers of others")

    monkeypatch.setattr("caloforge.serving.rollout.check_server", answer)
    with pytest.raises(DeployFailed, match="showers of others; it is left to them"):
        roll_out(cluster, reference)
    assert spec(api) == theirs["spec"]


def test_two_runs_that_make_the_service_at_the_same_time(
    api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference
) -> None:
    """The second finds it made when it makes it, and changes it."""
    KServe(api, server.url)
    body, make = wanted("s3://bucket/third"), cluster.create

    def create(*arguments: Any) -> dict[str, Any]:
        api.add("inferenceservices", body)
        return make(*arguments)

    cluster.create = create  # type: ignore[method-assign]
    roll_out(cluster, reference)
    assert spec(api) == wanted()["spec"]


def test_wrong_showers(api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference) -> None:
    other = replace(reference, showers=reference.showers * np.float32(1.01))
    with pytest.raises(DeployFailed, match=r"showers are not those of in-process sampling: 20 of 20.*deleted again"):
        roll_out(cluster, other)
    assert not api.of("inferenceservices")


def test_rubbish_goes_back(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference, rubbish: str
) -> None:
    put_old(api, cluster)
    (before,) = api.of("inferenceservices")
    metadata = before["metadata"]
    kserve.urls["s3://bucket/new"] = rubbish
    with pytest.raises(DeployFailed, match=r"not that of a shower server.*the specification before is there again"):
        roll_out(cluster, reference)
    assert spec(api) == OLD
    (after,) = api.of("inferenceservices")
    for kind in ("labels", "annotations"):
        assert after["metadata"].get(kind, {}) == metadata.get(kind, {}), "which would start new pods again"
    if kserve.knative:
        assert kserve.traffic == ["s3://bucket/old"], "rubbish never had any traffic"
    roll_out(cluster, reference, wanted("s3://bucket/third"))
    assert spec(api) == wanted("s3://bucket/third")["spec"]


def test_it_is_kept_if_asked(api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference) -> None:
    other = replace(reference, showers=reference.showers * np.float32(1.01))
    with pytest.raises(DeployFailed, match="left as it is: kubectl describe inferenceservice calo --namespace default"):
        roll_out(cluster, other, keep=True)
    assert api.of("inferenceservices")


@pytest.mark.parametrize("there", [False, True])
def test_a_stop(
    there: bool,
    api: KubernetesApi,
    kserve: KServe,
    cluster: Cluster,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if there:
        put_old(api, cluster)

    def stop(_: float) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("caloforge.cluster.time.sleep", stop)
    kserve.looks = 10
    with pytest.raises(SystemExit):
        roll_out(cluster, reference)
    if not there:
        assert not api.of("inferenceservices")
    else:
        expected = {"predictor": {**OLD["predictor"], **({"canaryTrafficPercent": 0} if kserve.knative else {})}}
        assert spec(api) == expected
        assert set(kserve.traffic) == {"s3://bucket/old"}


@pytest.mark.parametrize("there", [False, True])
def test_a_second_attempt_knows_the_first_one(
    there: bool, api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference
) -> None:
    """The first attempt was killed before it could go back; the second one does."""
    if there:
        put_old(api, cluster)
    other = replace(reference, showers=reference.showers * np.float32(1.01))
    with pytest.raises(DeployFailed):
        roll_out(cluster, other, run="a", keep=True)
    with pytest.raises(DeployFailed, match="the specification before" if there else "deleted again"):
        roll_out(cluster, other, run="a")
    assert (spec(api) == OLD) if there else (not api.of("inferenceservices"))


def test_what_another_run_made_is_left_alone(
    api: KubernetesApi, kserve: KServe, cluster: Cluster, reference: Reference
) -> None:
    roll_out(cluster, reference, run="a")
    other = replace(reference, showers=reference.showers * np.float32(1.01))
    with pytest.raises(DeployFailed, match="nothing was changed"):
        roll_out(cluster, other, run="b")
    assert spec(api) == wanted()["spec"]


def test_pods_that_may_not_be_seen(
    api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    KServe(api, server.url)
    api.kinds.discard("pods")
    roll_out(cluster, reference)
    assert "cannot tell new servers from old ones" in caplog.text


def test_a_service_that_is_being_deleted(
    api: KubernetesApi, server: Any, cluster: Cluster, reference: Reference
) -> None:
    def go(item: dict[str, Any]) -> None:
        del api.objects["inferenceservices", "default", "calo"]
        KServe(api, server.url)

    api.add(
        "inferenceservices", {"metadata": {"name": "calo", "deletionTimestamp": "2025-01-01T00:00:00Z"}, "spec": OLD}
    )
    api.controllers["inferenceservices"] = go
    roll_out(cluster, reference)
    assert spec(api) == wanted()["spec"]


def test_replacing() -> None:
    old = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1], "f": {"g": 1}}
    new = {"b": {"d": 4}, "e": [1, 2], "f": "text", "h": {}}
    assert replacing(old, new) == {"a": None, "b": {"c": None, "d": 4}, "e": [1, 2], "f": "text", "h": {}}
    assert replacing(old, old) == {}
