"""Why a pod failed or does not start, in our words; all of it from what the API server says."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from caloforge.ending import one_line

Object = dict[str, Any]

CONTAINER = "main"
"""The container of a step; Argo puts others beside it."""

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_LACKING = re.compile(r"Insufficient ([\w./-]*\w)")
_ABSENT_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_ABSENT = re.compile(r'(secret|configmap|serviceaccount) "([^"]+)" not found')
_ABSENT_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) (?:[\w.-]+/)?([\w.-]+)")
_POLICY = re.compile(r'violates PodSecurity "[^"]+": (.+)')
_QUOTA = re.compile(r"(?:exceeded|failed) quota: (.+)")
_EXIT = re.compile(r"^(?:main: )?(?:Error|OOMKilled) \(exit code (\d+)\)(?:: (.+))?$")
_STOPPED = {"137": "stopped: SIGKILL", "143": "stopped: SIGTERM"}


def failure(pod: Object) -> str:
    """Return why a pod failed; empty if it does not say."""
    ended = _state(pod).get("terminated", {})
    message, code = one_line(ended.get("message", "")), str(ended.get("exitCode", ""))
    reason = pod["status"].get("reason", "")
    if ended.get("reason") == "OOMKilled":
        return f"OOMKilled: memory is {_main(pod).get('resources', {}).get('limits', {}).get('memory', 'not limited')}"
    if reason == "DeadlineExceeded":
        return f"took longer than its {pod['spec'].get('activeDeadlineSeconds', '?')} s"
    if reason == "Evicted":
        return f"evicted: {one_line(pod['status'].get('message', ''))}"
    if message:
        return message
    if code in ("", "0"):
        return waiting(pod) or one_line(pod["status"].get("message", ""))
    return _STOPPED.get(code, f"exit code {code}")


def waiting(pod: Object, *, events: Iterable[str] = (), claim_phase: Callable[[str], str] = lambda name: "") -> str:
    """Return why a pod does not start; empty if it does not say.

    Args:
        pod: from the API server.
        events: messages of the pod's events, the latest last.
        claim_phase: what gives the phase of a claim, ``absent`` if there is none of that name.
    """
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _unschedulable(pod, condition.get("message", ""), claim_phase)
    state = _state(pod).get("waiting", {})
    reason, message = state.get("reason", ""), state.get("message", "")
    if reason in _IMAGE:
        return f"the image {_main(pod)['image']} cannot be pulled"
    if reason not in ("", "PodInitializing", "ContainerCreating"):
        return refusal(message) if message else reason
    return next((refusal(text) for text in reversed(list(events)) if refusal(text) != one_line(text)), "")


def refusal(message: str) -> str:
    """Return a message of the cluster in our words, or itself in one line."""
    if found := _ABSENT_CLAIM.search(message):
        return f"claim {found[1]}: is not there"
    if found := _ABSENT_KEY.search(message):
        return f"{found[2].lower()} {found[3]}: has no key {found[1]}"
    if found := _ABSENT.search(message):
        kind = {"serviceaccount": "service account"}.get(found[1], found[1])
        return f"{kind} {found[2]}: is not there"
    if found := _POLICY.search(message):
        return f"the namespace's Pod Security refuses its pod: {one_line(found[1])}"
    if found := _QUOTA.search(message):
        return f"the namespace's quota refuses its pod: {one_line(found[1])}"
    if found := _EXIT.match(message):
        return one_line(found[2] or "") or _STOPPED.get(found[1], f"exit code {found[1]}")
    return one_line(message)


def claims(pod: Object) -> list[str]:
    """Return the names of the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes", ())
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if "persistentVolumeClaim" in one]


def _unschedulable(pod: Object, message: str, claim_phase: Callable[[str], str]) -> str:
    if "PersistentVolumeClaim" in message:
        bad = [(name, phase) for name in claims(pod) if (phase := claim_phase(name)) not in ("", "Bound")]
        if bad:
            name, phase = bad[0]
            return f"claim {name}: {'is not there' if phase == 'absent' else phase}"
        return f"claim {' or '.join(claims(pod))}: not bound"
    if "persistentvolumeclaim" in message:
        return refusal(message)
    if lacking := _LACKING.findall(message):
        asked = _main(pod).get("resources", {}).get("requests", {})
        return "no node has " + " and ".join(f"{asked.get(one, 'enough')} {one}" for one in dict.fromkeys(lacking))
    return f"no node fits: {one_line(message.partition(' preemption:')[0])}"


def _main(pod: Object) -> Object:
    containers = pod["spec"]["containers"]
    return next((one for one in containers if one["name"] == CONTAINER), containers[0])


def main_status(pod: Object) -> Object:
    """Return the status of a step's container; empty before there is one."""
    found = pod["status"].get("containerStatuses", ())
    return next((one for one in found if one["name"] == CONTAINER), {})


def _state(pod: Object) -> Object:
    state: Object = main_status(pod).get("state", {})
    return state
