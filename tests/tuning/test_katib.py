"""Katib's side is played by a local HTTP server that speaks as much Kubernetes as a tuning needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes import client

from caloforge.components.image import IMAGE
from caloforge.errors import InputError
from caloforge.tuning.experiment import TrialPod
from caloforge.tuning.katib import connect, run_on_katib
from caloforge.tuning.objective import TrialFailed

Toy = Callable[..., dict[str, Any]]


class Cluster:
    """A cluster with Katib; ``script`` holds what goes wrong, one entry for each request."""

    def __init__(self) -> None:
        self.experiments: dict[str, dict[str, Any]] = {}
        self.script: list[int | str] = []
        self.outcome = "Succeeded"
        self.metric: str | None = "0.25"
        self.looks = 0
        self.selectors: list[str] = []

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        path, _, query = path.partition("?")
        assert path.startswith("/apis/kubeflow.org/v1beta1/namespaces/default/")
        plural, _, name = path.removeprefix("/apis/kubeflow.org/v1beta1/namespaces/default/").partition("/")
        if plural == "trials":
            self.selectors.append(query)
            return 200, {"items": [self._trial(number) for number in range(2)]}
        if method == "POST":
            assert body is not None
            name = body["metadata"]["name"]
            if name in self.experiments:
                return 409, {"message": "already exists"}
            self.experiments[name] = body
            return 201, body
        if name not in self.experiments:
            return 404, {"message": "not found"}
        if method == "DELETE":
            return 200, self.experiments.pop(name)
        self.looks += 1
        over = self.looks >= 3 and self.outcome != "never"
        condition = {"type": self.outcome, "status": str(over), "reason": "Because", "message": "of this"}
        status = {"trialsSucceeded": self.looks, "conditions": [condition]}
        return 200, {**self.experiments[name], "status": status}

    def _trial(self, number: int) -> dict[str, Any]:
        values = {"training-learning_rate": f"{1e-3 * (number + 1):g}", "training-batch_size": "32"}
        metrics = [] if self.metric is None else [{"name": "fpd", "latest": self.metric, "min": "9", "max": "9"}]
        if number and metrics:
            metrics[0]["latest"] = "0.5"
        return {
            "metadata": {"name": f"toy-{number}"},
            "spec": {"parameterAssignments": [{"name": name, "value": value} for name, value in values.items()]},
            "status": {
                "conditions": [{"type": "Running", "status": "False"}, {"type": "Succeeded", "status": "True"}],
                "observation": {"metrics": metrics},
                "startTime": "2025-01-01T00:00:00Z",
                "completionTime": "2025-01-01T00:01:30Z",
            },
        }


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def api(cluster: Cluster) -> Iterator[client.CustomObjectsApi]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            fault = cluster.script.pop(0) if cluster.script else "none"
            if fault == "reset":
                self.close_connection = True
                return
            if isinstance(fault, int):
                code, answer = fault, {"message": "as the script says"}
            else:
                code, answer = cluster.answer(self.command, self.path, body)
            content = b"<html>a proxy's page</html>" if fault == 502 else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    configuration.retries = False
    with client.ApiClient(configuration) as connection:
        yield client.CustomObjectsApi(connection)
        connection.rest_client.pool_manager.clear()
    server.shutdown()
    thread.join()
    server.server_close()


def run(experiment: dict[str, Any], api: client.CustomObjectsApi, **options: Any) -> Any:
    return run_on_katib(experiment, api, **{"poll_seconds": 0.01, "patience": 1.0, **options})


def test_success(cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    tuning = run(toy(), api)
    best, other = tuning.ranked
    assert best.metrics == {"fpd": 0.25}, "the latest value, as metricStrategies say"
    assert other.metrics == {"fpd": 0.5}
    assert best.parameters == {"training.learning_rate": 0.001, "training.batch_size": 32}
    assert best.seconds == 90
    assert tuning.overrides() == {"training": {"learning_rate": 0.001, "batch_size": 32}}
    assert cluster.selectors == ["labelSelector=katib.kubeflow.org%2Fexperiment%3Dtoy"]
    assert not cluster.experiments, "nothing stays"


@pytest.mark.parametrize("script", [[429, 500], ["none", 503, "reset", 502], ["none", "none", "none", "none", 504]])
def test_a_shaky_server(script: list[int | str], cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    cluster.script = list(script)
    assert len(run(toy(), api).ranked) == 2


def test_a_server_that_stays_away(cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    cluster.script = ["none", *[503] * 1000]
    with pytest.raises(TrialFailed, match=r"not answered for 0\.1 s: 503"):
        run(toy(), api, patience=0.1)


@pytest.mark.parametrize(
    ("script", "message"),
    [([403], "forbidden; apply manifests/rbac"), ([401], "log in again"), ([404], "Katib is not installed")],
)
def test_refusals(
    script: list[int | str], message: str, cluster: Cluster, api: client.CustomObjectsApi, toy: Toy
) -> None:
    cluster.script = list(script)
    with pytest.raises(InputError, match=message):
        run(toy(), api)
    cluster.script = ["none", *script]
    with pytest.raises(InputError, match=message):
        run(toy(), api)
    assert not cluster.experiments


def test_failure(cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    cluster.outcome = "Failed"
    with pytest.raises(TrialFailed, match="Because: of this"):
        run(toy(), api)
    assert not cluster.experiments


def test_no_metric(cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    for metric in (None, "unavailable"):
        cluster.metric, cluster.looks = metric, 0
        if metric is None:
            with pytest.raises(TrialFailed, match="metrics-collector-injection"):
                run(toy(), api)
        else:
            assert [trial.state for trial in run(toy(), api).trials] == ["failed", "succeeded"]


def test_timeout(cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    cluster.outcome = "never"
    with pytest.raises(TrialFailed, match=r"not done after 0\.1 s"):
        run(toy(), api, timeout=0.1)
    assert not cluster.experiments


def test_a_stop_deletes_the_experiment(
    cluster: Cluster, api: client.CustomObjectsApi, toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: float) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("caloforge.tuning.katib.time.sleep", stop)
    with pytest.raises(SystemExit):
        run(toy(), api)
    assert not cluster.experiments


def test_a_second_attempt_waits_for_the_first_ones(cluster: Cluster, api: client.CustomObjectsApi, toy: Toy) -> None:
    created: list[Any] = []
    plain = cluster.answer

    def keep(method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        if method == "POST":
            created.append(body)
        return (200, {}) if method == "DELETE" else plain(method, path, body)

    cluster.answer = keep  # type: ignore[method-assign]
    run(toy(), api)
    assert run(toy(), api).ranked, "found by its label"
    assert created[0] == created[1]
    with pytest.raises(InputError, match="kubectl delete experiment toy --namespace default"):
        run(toy(seed=2), api)


def test_what_a_shell_would_change(api: client.CustomObjectsApi, toy: Toy) -> None:
    with pytest.raises(InputError, match="shell"):
        run(toy(command=["caloforge", "trial", "--data=/data/my showers.hdf5"]), api)


def test_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(InputError, match="--backend local"):
        connect()


def test_trials_run_in_the_image_of_the_components() -> None:
    assert TrialPod().image == IMAGE


def test_pods_have_what_was_asked_for(toy: Toy) -> None:
    pod = TrialPod(claims={"showers": "/data"}, gpus=2)
    trial = toy(pod=pod)["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]
    (container,) = trial["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert {"name": "claim-0", "mountPath": "/data"} in container["volumeMounts"]
    assert trial["metadata"]["labels"] == {"sidecar.istio.io/inject": "false"}
