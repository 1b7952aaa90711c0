"""The training step on a cluster: kfp runs it, our API server is the cluster, and pods are processes."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from kubernetes_api import KubernetesApi, running
from safetensors.torch import load_file

from caloforge.files import read_json
from caloforge.models.configuration import TrainingRequest
from caloforge.models.training.train import train

OVERRIDES = {
    "training": {"steps": 6, "batch_size": 20},
    "energies": {"steps": 4, "batch_size": 20},
    "model": {"network": {"width": 16, "blocks": 1}},
}

SCRIPT = """
    import json, sys
    from kfp import dsl, local
    from caloforge.components.train import train
    request = json.load(open(sys.argv[1]))
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=request["root"])
    @dsl.pipeline(name="one-step")
    def pipeline(showers: str, prepared: str, arguments: dict = {}) -> dsl.Model:
        folder = dsl.importer(artifact_uri=prepared, artifact_class=dsl.Dataset).output
        none = dsl.importer(artifact_uri=prepared, artifact_class=dsl.Model).output
        return train(data=showers, prepared=folder, energies=none, **request["arguments"]).outputs["bundle"]
    bundle = pipeline(showers=request["showers"], prepared=request["prepared"]).output
    json.dump(bundle.uri, open(request["result"], "w"))
"""


class Trainer:
    """Plays Kubeflow Trainer: each node of a TrainJob is a process with the environment that Trainer sets."""

    def __init__(self, api: KubernetesApi) -> None:
        self.api = api
        self.jobs: list[dict[str, Any]] = []
        self.nodes: list[subprocess.Popen[str]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        api.controllers["trainjobs"] = self.reconcile

    def reconcile(self, job: dict[str, Any]) -> None:
        if not self.nodes:
            self.start(job)
        codes = [node.poll() for node in self.nodes]
        reached = "Failed" if any(codes) else "Complete" if codes == [0] * len(codes) else "Created"
        job["status"] = {"conditions": [{"type": reached, "status": "True", "reason": "Codes", "message": str(codes)}]}

    def start(self, job: dict[str, Any]) -> None:
        self.jobs.append(job)
        name, trainer = job["metadata"]["name"], job["spec"]["trainer"]
        for index in range(trainer["numNodes"]):
            pod = f"{name}-node-0-{index}-abcde"
            labels = {"jobset-name": name, "replicatedjob-name": "node"}
            labels = {f"jobset.sigs.k8s.io/{key}": value for key, value in labels.items()}
            labels["batch.kubernetes.io/job-completion-index"] = str(index)
            namespace = job["metadata"]["namespace"]
            self.api.add("pods", {"metadata": {"name": pod, "labels": labels}}, namespace=namespace)
            environment = os.environ | {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(index),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(self.port),
                "OMP_NUM_THREADS": "1",
                "PYTHONSAFEPATH": "1",
                **{entry["name"]: entry["value"] for entry in trainer.get("env", [])},
            }
            assert trainer["command"][0] == "python"
            node = subprocess.Popen(
                [sys.executable, *trainer["command"][1:]],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            self.nodes.append(node)
            self.api.logs[pod] = ""
            threading.Thread(target=self.collect, args=(pod, node), daemon=True).start()

    def collect(self, pod: str, node: subprocess.Popen[str]) -> None:
        assert node.stdout is not None
        with node.stdout as lines:
            for line in lines:
                self.api.logs[pod] += f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {line}"


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with running(KubernetesApi("trainjobs")) as api:
        yield api


@pytest.fixture
def trainer(api: KubernetesApi) -> Iterator[Trainer]:
    trainer = Trainer(api)
    yield trainer
    for node in trainer.nodes:
        node.kill()
        node.wait()


@pytest.mark.slow
def test_two_nodes_train_what_one_process_does(
    small_showers: Path, small_prepared: Path, tmp_path: Path, api: KubernetesApi, trainer: Trainer
) -> None:
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    pod = {"claims": {"work": str(tmp_path / "claim")}, "shared": str(tmp_path / "claim" / "work")}
    request = {
        "root": str(tmp_path / "root"),
        "showers": str(small_showers),
        "prepared": str(small_prepared),
        "result": str(tmp_path / "result.json"),
        "arguments": {
            "family": "vae", "overrides": json.dumps({"vae": OVERRIDES}), "seed": 3,
            "nodes": 2, "backend": "cluster", "training_pod": json.dumps(pod),
        },
    }  # fmt: skip
    (tmp_path / "request.json").write_text(json.dumps(request))
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {key: value for key, value in os.environ.items() if key != "KUBERNETES_SERVICE_HOST"}
    done = subprocess.run(
        [sys.executable, "-P", script, tmp_path / "request.json"],
        env=environment | {"KUBECONFIG": str(tmp_path / "kubeconfig")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "vae voxels: 6 steps in" in done.stdout + done.stderr, "the pod's log is shown"
    (job,) = trainer.jobs
    assert job["spec"]["trainer"]["numNodes"] == 2
    assert not api.of("trainjobs"), "nothing stays"
    assert not list((tmp_path / "claim" / "work").iterdir())

    bundle = Path(read_json(tmp_path / "result.json"))
    record = read_json(bundle / "training.json")
    assert record["processes"] == 2
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(
        TrainingRequest(
            showers=small_showers,
            prepared=small_prepared,
            output=tmp_path / "one",
            family="vae",
            overrides=OVERRIDES,
            seed=3,
        )
    )
    torch.set_num_threads(threads)
    one, two = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "one", bundle))
    for name, value in one.items():
        assert torch.allclose(value.float(), two[name].float(), atol=2e-3), name
