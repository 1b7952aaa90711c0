"""Trainer's side is played by a controller on a local API server."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from kubernetes_api import KubernetesApi, connected, running

from caloforge import cli
from caloforge.cluster import Cluster
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.registries import FAMILIES
from caloforge.tuning.experiment import TrialPod
from caloforge.tuning.optimization_job import assigned, build_optimization_job, check_optimization_job
from caloforge.tuning.space import load_space, parse_space
from caloforge.tuning.trainer import run_on_trainer, tell_trainer

pytestmark = pytest.mark.slow

RANGES = {
    "training.learning_rate": {"type": "double", "min": 1e-5, "max": 1e-2, "log": True},
    "training.batch_size": {"type": "int", "min": 16, "max": 64, "step": 16},
    "model.network.backbone": {"type": "categorical", "values": ["mlp", "layers"]},
}
POD = TrialPod(image="registry/caloforge:1", gpus=1, claims={"data": "/data"}, env={"A": "b"})


def build(ranges: dict[str, Any] = RANGES, **changes: Any) -> dict[str, Any]:
    space = parse_space(ranges, family="vae", preset="demo", where="test")
    options = {
        "name": "tune-vae", "objective": "fpd", "algorithm": "random", "seed": 1, "trials": 4, "parallel": 2,
        "command": ["caloforge", "trial"], "pod": POD, **changes,
    }  # fmt: skip
    return build_optimization_job(space, **options)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_has_a_legal_object(family: str) -> None:
    """The TrainJob within survives the official models, in which unknown fields vanish."""
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJobSpec

    job = build_optimization_job(
        load_space(family, "demo"), name="tune", objective="fpd", algorithm="random", seed=1, trials=8, parallel=2,
        command=["caloforge", "trial"], pod=POD,
    )  # fmt: skip
    check_optimization_job(job)
    spec = job["spec"]["trainJobTemplate"]["spec"]
    known = {key: value for key, value in spec.items() if key != "podTemplateOverrides"}  # of Trainer 2.1
    assert TrainerV1alpha1TrainJobSpec.from_dict(known).to_dict() == known
    assert spec["trainer"]["image"] == "registry/caloforge:1"


def test_ranges() -> None:
    spaces = {one["name"]: one["searchSpace"] for one in build()["spec"]["parameters"]}
    assert spaces == {
        "training__learning_rate": {"logUniform": {"min": "1e-05", "max": "0.01", "type": "Float"}},
        "training__batch_size": {"categorical": {"choices": ["16", "32", "48", "64"]}},
        "model__network__backbone": {"categorical": {"choices": ["mlp", "layers"]}},
    }
    ranges = {"model.latent": {"type": "int", "min": 8, "max": 9}}
    assert build(ranges)["spec"]["parameters"][0]["searchSpace"] == {"uniform": {"min": "8", "max": "9", "type": "Int"}}
    grid = build(ranges, algorithm="grid")
    check_optimization_job(grid)
    assert grid["spec"]["parameters"][0]["searchSpace"] == {"categorical": {"choices": ["8", "9"]}}


def test_what_it_cannot_do() -> None:
    with pytest.raises(InputError, match="'tpe': an OptimizationJob knows random and grid only"):
        build(algorithm="tpe")
    with pytest.raises(InputError, match="a grid takes categorical parameters only"):
        check_optimization_job(build(algorithm="grid"))


PARAMETER = "spec/parameters/0"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec/maxTrials", 3, "spec.maxTrials: is no field"),
        ("spec/objectives", [], "spec.objectives: is missing"),
        ("spec/objectives/0/metric", "", "spec.objectives[0].metric"),
        ("spec/objectives/0/direction", "minimize", "spec.objectives[0].direction"),
        ("spec/numTrials", 101, "spec.numTrials"),
        ("spec/parallelTrials", 5, "spec.parallelTrials: 5 is more"),
        ("spec/searchAlgorithm", {"random": {}, "grid": {}}, "spec.searchAlgorithm"),
        ("spec/parameters", [], "spec.parameters: is missing"),
        (f"{PARAMETER}/name", "training-batch", "spec.parameters[0].name"),
        (f"{PARAMETER}/name", "training__batch_size", "a name is there twice"),
        (f"{PARAMETER}/searchSpace", {"normal": {}}, "spec.parameters[0].searchSpace"),
        (f"{PARAMETER}/searchSpace/logUniform/step", "1", "searchSpace.logUniform.step: is no field"),
        (f"{PARAMETER}/searchSpace/logUniform/min", 1e-5, "written as texts"),
        (f"{PARAMETER}/searchSpace/logUniform/min", "0", "positive for logUniform"),
        (f"{PARAMETER}/searchSpace/logUniform/max", "1e-6", "min must be less than max"),
        (f"{PARAMETER}/searchSpace/logUniform/type", "Double", "must be Int or Float"),
        ("spec/parameters/1/searchSpace/categorical/choices", ["16", "16"], "different values"),
        ("spec/parameters/1/searchSpace/categorical/choices", [16], "must be texts"),
        ("spec/trainJobTemplate/metadata", {"name": "x"}, "spec.trainJobTemplate.metadata.name"),
        ("spec/trainJobTemplate/spec/runtimeRef", None, "spec.trainJobTemplate.spec.runtimeRef"),
        ("spec/trainJobTemplate/kind", "Job", "spec.trainJobTemplate.kind: is no field"),
    ],
)
def test_what_trainer_refuses(path: str, value: Any, field: str) -> None:
    job = deepcopy(build())
    check_optimization_job(job)
    *groups, name = [int(part) if part.isdigit() else part for part in path.split("/")]
    inner: Any = job
    for group in groups:
        inner = inner[group]
    inner[name] = value
    with pytest.raises(InputError, match="Trainer would refuse") as error:
        check_optimization_job(job)
    assert field in str(error.value)


class Trainer:
    """Makes two TrainJobs of any OptimizationJob; the second look finds them over."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.outcome = "Complete"
        self.told = True
        api.controllers["optimizationjobs"] = self.reconcile

    def reconcile(self, job: dict[str, Any]) -> None:
        """Do some work, as happens between two looks."""
        if not self.api.of("trainjobs"):
            for number in range(2):
                self.api.add("trainjobs", self.trial(job, number))
            self.api.add("trainjobs", {"metadata": {"name": "of-others"}, "spec": {}})
        elif self.outcome != "never":
            condition = {
                "type": self.outcome,
                "status": "True",
                "reason": "TrialFailed",
                "message": "1 trial(s) failed",
            }
            job["status"] = {"conditions": [condition]}

    def trial(self, job: dict[str, Any], number: int) -> dict[str, Any]:
        """Return a trial; if the job fails, it is the first trial that did."""
        environment = [{"name": "KUBEFLOW_OPT_training__learning_rate", "value": f"{number + 1}e-3"}]
        failed = self.outcome == "Failed" and number == 0
        status: dict[str, Any] = {"conditions": [{"type": "Failed" if failed else "Complete", "status": "True"}]}
        if self.told and not failed:
            status["trainerStatus"] = {"metrics": [{"name": "fpd", "value": str(0.5 - 0.1 * number)}]}
        return {
            "metadata": {"name": f"trial-{number}", "ownerReferences": [{"uid": job["metadata"]["uid"]}]},
            "spec": {"trainer": {"env": environment}},
            "status": status,
        }


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with running(KubernetesApi("optimizationjobs", "trainjobs")) as api:
        yield api


@pytest.fixture
def cluster(api: KubernetesApi) -> Iterator[Cluster]:
    with connected(api) as cluster:
        yield cluster


def test_success(api: KubernetesApi, cluster: Cluster) -> None:
    Trainer(api)
    api.script = [429, "lost", "none", "none", "reset", 500]
    tuning = run_on_trainer(build(), cluster)
    assert [trial.name for trial in tuning.ranked] == ["trial-1", "trial-0"]
    assert tuning.overrides() == {"training": {"learning_rate": 0.002}}
    assert not api.of("optimizationjobs"), "nothing stays"


def test_a_failed_trial_ends_the_search_with_what_there_is(
    api: KubernetesApi, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    Trainer(api).outcome = "Failed"
    tuning = run_on_trainer(build(), cluster)
    assert [trial.state for trial in tuning.trials] == ["failed", "succeeded"]
    assert tuning.ended == "TrialFailed: 1 trial(s) failed"
    assert "1 trial(s) failed" in caplog.text


@pytest.mark.parametrize(("outcome", "why"), [("Complete", "TrainJobStatus"), ("never", r"not done after 0\.1 s")])
def test_no_figures(outcome: str, why: str, api: KubernetesApi, cluster: Cluster) -> None:
    trainer = Trainer(api)
    trainer.outcome, trainer.told = outcome, False
    tuning = run_on_trainer(build(), cluster, timeout=0.1 if outcome == "never" else None)
    assert tuning.best is None
    assert re.search(why, tuning.ended)
    assert not api.of("optimizationjobs")


@pytest.mark.parametrize("requests", [0, 1, 2, 3])
def test_a_server_that_is_away_for_a_minute(requests: int, api: KubernetesApi, cluster: Cluster) -> None:
    """A minute is 0.3 s here, and patience 1.5 s."""
    Trainer(api)
    cluster.patience = 1.5
    api.away_at, api.away_seconds = requests, 0.3
    tuning = run_on_trainer(build(), cluster)
    assert api.came_back.is_set(), "it was away"
    assert (len(tuning.ranked), tuning.ended) == (2, "")
    assert not api.of("optimizationjobs")


def test_a_server_that_stays_away(api: KubernetesApi, cluster: Cluster) -> None:
    Trainer(api)
    cluster.patience = 0.1
    api.script = ["none", *[503] * 1000]
    tuning = run_on_trainer(build(), cluster)
    assert tuning.best is None
    assert "not answered for 0.1 s" in tuning.ended


@pytest.mark.parametrize(("fault", "message"), [(403, "forbidden"), (404, "Trainer with OptimizationJobs is not")])
def test_refusals(fault: int, message: str, api: KubernetesApi, cluster: Cluster) -> None:
    api.script = [fault]
    with pytest.raises(InputError, match=message):
        run_on_trainer(build(), cluster)


def test_on_the_command_line(api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Trainer(api)
    with connected(api) as cluster:
        monkeypatch.setattr("caloforge.cluster.connect", lambda _: cluster)
        words = ["tune", "--data=s3://physics/showers.hdf5", "--family=vae", "--trials=2", "--backend=optimizationjob"]
        done = CliRunner().invoke(cli.main, [*words, "--algorithm=random", "-o", str(tmp_path)])
        assert done.exit_code == 0, done.output
        refused = CliRunner().invoke(cli.main, [*words, "--early-stopping", "-o", str(tmp_path)])
        assert refused.exit_code == 2
        assert "stops no trials early" in refused.stderr
    job = read_json(tmp_path / "optimization_job.json")
    check_optimization_job(job)
    assert "--output=/tmp/trial" in job["spec"]["trainJobTemplate"]["spec"]["trainer"]["command"]
    assert yaml.safe_load((tmp_path / "overrides.json").read_text()) == {"training": {"learning_rate": 0.002}}


def test_a_trial_reads_its_parameters_and_tells_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeflow_trainer_api.models import TrainerV1alpha1UpdateTrainJobStatusRequest

    environment = {"KUBEFLOW_OPT_training__batch_size": "32", "KUBEFLOW_OPT_MODEL__BETA": "0.5", "HOME": "/"}
    assert assigned(environment) == {"training.batch_size": 32, "model.beta": 0.5}

    tell_trainer({"fpd": 1.0})  # nobody asks
    told: list[tuple[str, dict[str, Any]]] = []
    with _server(lambda token, body: told.append((token, body)), fails=1) as url:
        (tmp_path / "token").write_text("secret\n")
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", url)
        monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(tmp_path / "token"))
        monkeypatch.setattr("caloforge.patience.time.sleep", lambda _: None)
        tell_trainer({"fpd": 0.25, "auc": float("nan")})
    ((token, body),) = told
    assert token == "Bearer secret"
    assert body["trainerStatus"]["metrics"] == [{"name": "fpd", "value": "0.25"}]
    parsed = TrainerV1alpha1UpdateTrainJobStatusRequest.from_dict(body)
    assert parsed.to_dict()["trainerStatus"].keys() == body["trainerStatus"].keys()
    tell_trainer({"fpd": 0.25})  # the server is gone: no reason to lose the trial


class _server:
    """A server that takes what is posted, after some failures."""

    def __init__(self, take: Callable[[str, dict[str, Any]], None], *, fails: int) -> None:
        failures = iter(range(fails))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                failed = next(failures, None) is not None
                if not failed:
                    take(self.headers["Authorization"], body)
                self.send_response(503 if failed else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}/status"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
