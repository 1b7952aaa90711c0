"""Nodes that are too small, not there for us, or of another kind."""

from __future__ import annotations

import re
from typing import Any

import pytest
from healthy_cluster import Alter, node, of
from kubernetes_api import KubernetesApi

from caloforge.pipelines.doctor import examine
from caloforge.pipelines.settings import PipelineSettings


def replaced(name: str, **changes: Any) -> Alter:
    return lambda api: api.objects["nodes", "", name].update(changes)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (
            replaced("cpu-1", **node("cpu-1", memory="6Gi")),
            "validate.*: 2 cpu, 8G memory: no node fits: with 6.0Gi memory",
        ),
        (
            replaced("cpu-1", **node("cpu-1", cpu="1930m")),
            "preprocess.*: 2 cpu, 8G memory: no node fits: with 1.93 cpu",
        ),
        (replaced("cpu-1", spec={"unschedulable": True}), r"no node fits: cordoned \(kubectl uncordon\)"),
        (
            lambda api: api.objects["nodes", "", "cpu-1"]["status"]["conditions"][1].update(status="Unknown"),
            "no node fits: not ready",
        ),
        (
            lambda api: api.objects["nodes", "", "gpu-1"]["status"]["allocatable"].update(
                {"nvidia.com/gpu": "0", "amd.com/gpu": "8"}
            ),
            r"train: 2 x nvidia.com/gpu: no node fits: with 0 nvidia.com/gpu \(but amd.com/gpu\)",
        ),
    ],
)
def test_a_node_that_a_step_does_not_fit_on(
    alter: Alter, said: str, api: KubernetesApi, settings: PipelineSettings
) -> None:
    alter(api)
    found = of(examine(settings=settings), "nodes", "failed")
    assert re.search(said, found), found
    assert len(found.splitlines()) <= 2, "steps that ask for the same are said together"


def test_what_train_gpus_may_be_is_seen(api: KubernetesApi, settings: PipelineSettings) -> None:
    said = of(examine(settings=settings), "nodes", "ok")
    assert "train: 2 x nvidia.com/gpu: 1 nodes, e.g. gpu-1" in said
    assert "2 nodes, with 4 x nvidia.com/gpu" in said
    api.objects.pop(("nodes", "", "gpu-1"))
    found = examine(settings=settings.model_copy(update={"resources": {}}))
    assert "1 nodes, without GPUs" in of(found, "nodes", "ok")


@pytest.mark.parametrize(("gpus", "nodes", "fits"), [(2, 2, True), (2, 3, False), (4, 2, False)])
def test_all_pods_of_a_train_job_need_room_at_once(
    gpus: int, nodes: int, fits: bool, api: KubernetesApi, settings: PipelineSettings
) -> None:
    distributed = settings.distributed.model_copy(update={"nodes": nodes, "shared": "/data/work"})
    train = {**settings.resources["train"], "gpus": gpus}
    found = examine(settings=settings.model_copy(update={"distributed": distributed, "resources": {"train": train}}))
    said = of(found, "nodes", "failed")
    if fits:
        assert not said
    else:
        room = 4 // gpus
        assert f"a TrainJob has {nodes} pods of {gpus} x nvidia.com/gpu, the nodes have room for {room}" in said
        assert f"distributed: {{nodes: {room}}}" in said
