"""Texts of Kubernetes in our words. The image's are recorded; the others are those of its sources and of the facts."""

from typing import Any

import pytest

from caloforge.pipelines.pod_causes import failure, refusal, waiting

IMAGE = "registry.example.org/caloforge:9.9.9"


def _pod(
    *,
    state: dict[str, Any] | None = None,
    scheduled: str | None = None,
    claims: tuple[str, ...] = (),
    **status: Any,
) -> dict[str, Any]:
    resources = {"requests": {"cpu": "2", "memory": "3Gi", "nvidia.com/gpu": "2"}, "limits": {"memory": "3Gi"}}
    containers = [{"name": "wait", "image": "argoexec"}, {"name": "main", "image": IMAGE, "resources": resources}]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    pod: dict[str, Any] = {
        "metadata": {"name": "pod"},
        "spec": {"containers": containers, "volumes": volumes, "activeDeadlineSeconds": 600},
        "status": {"phase": "Pending", **status},
    }
    if state is not None:
        pod["status"]["containerStatuses"] = [{"name": "wait", "state": {}}, {"name": "main", "state": state}]
    if scheduled is not None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": scheduled}
        pod["status"]["conditions"] = [condition]
    return pod


@pytest.mark.parametrize(
    ("ended", "status", "expected"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, {}, "OOMKilled: memory is 3Gi"),
        ({"exitCode": 1, "message": "s3://b/c: nothing\nis there"}, {}, "s3://b/c: nothing is there"),
        ({"exitCode": 0, "message": "diverged"}, {}, "diverged"),
        ({"exitCode": 1, "reason": "Error"}, {}, "exit code 1"),
        ({"exitCode": 143, "reason": "Error"}, {}, "stopped: SIGTERM"),
        ({"exitCode": 137, "reason": "Error"}, {}, "stopped: SIGKILL"),
        (
            {"exitCode": 143, "message": "stopped: SIGTERM"}, {"reason": "DeadlineExceeded"},
            "took longer than its 600 s",
        ),
        ({}, {"reason": "Evicted", "message": "The node was low on resource: memory."},
         "evicted: The node was low on resource: memory."),
        ({}, {"message": "node is gone"}, "node is gone"),
    ],
)  # fmt: skip
def test_why_it_failed(ended: dict[str, Any], status: dict[str, Any], expected: str) -> None:
    assert failure(_pod(state={"terminated": ended}, **status)) == expected


def _waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("pod", "expected"),
    [
        (_pod(state=_waits("ImagePullBackOff", "Back-off")), f"the image {IMAGE} cannot be pulled"),
        (_pod(state=_waits("ErrImagePull", "rpc error")), f"the image {IMAGE} cannot be pulled"),
        (_pod(state=_waits("CreateContainerConfigError", 'secret "store" not found')), "secret store: is not there"),
        (
            _pod(state=_waits("CreateContainerConfigError", "couldn't find key secretkey in Secret kubeflow/store")),
            "secret store: has no key secretkey",
        ),
        (_pod(state=_waits("PodInitializing")), ""),
        (
            _pod(scheduled="0/1 nodes are available: 1 Insufficient nvidia.com/gpu. no new claims to deallocate, "
                 "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."),
            "no node has 2 nvidia.com/gpu",
        ),
        (
            _pod(scheduled="0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient memory."),
            "no node has 2 cpu and 3Gi memory",
        ),
        (
            _pod(scheduled='0/1 nodes are available: persistentvolumeclaim "caloforge-work" not found.'),
            "claim caloforge-work: is not there",
        ),
        (
            _pod(scheduled="0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}. preemption: 0/2"),
            "no node fits: 0/2 nodes are available: 2 node(s) had untolerated taint {gpu: yes}.",
        ),
    ],
)  # fmt: skip
def test_why_it_waits(pod: dict[str, Any], expected: str) -> None:
    assert waiting(pod) == expected


def test_the_claim_that_is_not_bound_is_named() -> None:
    pod = _pod(scheduled="0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
               claims=("fine", "caloforge-work"))  # fmt: skip
    phases = {"fine": "Bound", "caloforge-work": "Pending"}
    assert waiting(pod, claim_phase=phases.__getitem__) == "claim caloforge-work: Pending"
    assert waiting(pod, claim_phase=lambda name: "absent" if name == "fine" else "") == "claim fine: is not there"
    assert waiting(pod) == "claim fine or caloforge-work: not bound"


def test_a_volume_that_cannot_be_mounted_is_told_by_an_event() -> None:
    pod = _pod(state=_waits("ContainerCreating"))
    event = 'MountVolume.SetUp failed for volume "secret-0" : secret "krb5" not found'
    assert waiting(pod, events=[event, "Successfully assigned kubeflow/pod to node"]) == "secret krb5: is not there"
    assert waiting(pod, events=["Successfully assigned kubeflow/pod to node"]) == ""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            'pods "x-1" is forbidden: error looking up service account kubeflow/runner: serviceaccount "runner" not found',
            "service account runner: is not there",
        ),
        (
            'pods "x-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod ...)',
            "the namespace's Pod Security refuses its pod: runAsNonRoot != true (pod ...)",
        ),
        (
            'pods "x-1" is forbidden: failed quota: caloforge: must specify requests.cpu for: init,wait',
            "the namespace's quota refuses its pod: caloforge: must specify requests.cpu for: init,wait",
        ),
        ("main: Error (exit code 1): s3://data/nothing.hdf5: nothing is there", "s3://data/nothing.hdf5: nothing is there"),
        ("Error (exit code 255)", "exit code 255"),
        ("something\nelse", "something else"),
    ],
)  # fmt: skip
def test_refusals(message: str, expected: str) -> None:
    assert refusal(message) == expected
