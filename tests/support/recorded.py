"""Answers of a real Kubeflow to our own runs (``tests/data/kubeflow``); names and addresses are replaced."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import yaml
from kfp_api import KfpApi
from kubernetes_api import KubernetesApi

_FOLDER = Path(__file__).parents[1] / "data" / "kubeflow"

RUNS = sorted(path.name.removesuffix(".json.gz") for path in _FOLDER.glob("run_*.json.gz"))


def recorded(name: str) -> Any:
    """Return an answer by the name of its file."""
    return json.loads(gzip.decompress((_FOLDER / f"{name}.json.gz").read_bytes()))


def specification() -> Any:
    """Return the pipeline of the recorded runs; those of more or fewer families differ in this list only."""
    return recorded("pipeline_version")["pipeline_spec"]


def replay(api: KfpApi, name: str, *, families: list[str] | None = None) -> str:
    """Serve a recorded run; return its identifier."""
    run = recorded(name)
    if families is not None:
        run.setdefault("runtime_config", {}).setdefault("parameters", {})["families"] = families
    return api.replay(run, specification())


def replay_pods(api: KubernetesApi, name: str) -> list[dict[str, Any]]:
    """Serve the pods of a recorded run."""
    pods: list[dict[str, Any]] = recorded(name)["items"]
    for pod in pods:
        api.objects["pods", pod["metadata"]["namespace"], pod["metadata"]["name"]] = pod
    return pods


def write_kubeconfig(path: Path, address: str) -> Path:
    """Write a kubeconfig whose one context leads to an address."""
    config = {
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
