"""What limit ranges and quotas of a namespace do to a pod, reckoned as the API server does."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

Amounts = Mapping[str, Decimal]

COMPULSORY = frozenset(
    (*(f"{kind}.{name}" for kind in ("requests", "limits") for name in ("cpu", "memory")), "cpu", "memory")
)
"""What every container must state as soon as a quota counts it."""


@dataclass(frozen=True)
class Container:
    """What one container of a pod asks for.

    Attributes:
        name: of the container.
        requests: cores, bytes and numbers by the names of Kubernetes.
        limits: the same.
        starts: whether it runs before the others (an init container).
    """

    name: str
    requests: Amounts
    limits: Amounts
    starts: bool = False

    @classmethod
    def of(cls, name: str, resources: Mapping[str, Mapping[str, str]], *, starts: bool = False) -> "Container":
        """Return a container from its resources as Kubernetes writes them; a limit is a request too where none is given."""
        limits = amounts(resources.get("limits"))
        return cls(name, {**limits, **amounts(resources.get("requests"))}, limits, starts)


@dataclass(frozen=True)
class RunPod:
    """A pod of a run.

    Attributes:
        name: what it is for.
        containers: those of others too.
    """

    name: str
    containers: tuple[Container, ...]


def amounts(quantities: Mapping[str, str] | None) -> dict[str, Decimal]:
    """Return quantities of Kubernetes as numbers."""
    return {name: Decimal(parse_quantity(value)) for name, value in (quantities or {}).items()}


def shown(name: str, amount: Decimal) -> str:
    """Return an amount for people: memory in Gi, all else as a plain number."""
    return f"{amount / 2**30:.1f}Gi" if "memory" in name else f"{amount.normalize():f}"


def with_defaults(pod: RunPod, limit_ranges: Iterable[Any]) -> RunPod:
    """Return a pod as the limit ranges leave it: what a container does not state is filled in."""
    containers = pod.containers
    for item in _items(limit_ranges, "Container"):
        # The API server fills these gaps when a LimitRange is made.
        limits = {**amounts(item.get("max")), **amounts(item.get("default"))}
        requests = {**amounts(item.get("min")), **limits, **amounts(item.get("defaultRequest"))}
        containers = tuple(
            replace(one, requests={**requests, **one.requests}, limits={**limits, **one.limits}) for one in containers
        )
    return replace(pod, containers=containers)


def refusals(pod: RunPod, limit_ranges: Iterable[Any]) -> Iterator[str]:
    """Yield why a pod with its defaults is refused because of limit ranges."""
    limit_ranges = list(limit_ranges)
    for one in pod.containers:
        for name, request in one.requests.items():
            if name in one.limits and request > one.limits[name]:
                limit = shown(name, one.limits[name])
                yield f"{one.name} requests {shown(name, request)} {name}, more than its limit of {limit}"
    for item in _items(limit_ranges, "Container"):
        for one in pod.containers:
            yield from _outside(item, one.name, one.requests, one.limits)
    for item in _items(limit_ranges, "Pod"):
        yield from _outside(item, "all containers together", totals(pod, "requests"), totals(pod, "limits"))


def unstated(pod: RunPod, counted: Iterable[str]) -> dict[str, list[str]]:
    """Return the containers that a quota refuses because they do not state what it counts, by what they lack."""
    lacking: dict[str, list[str]] = {}
    for name in sorted(COMPULSORY.intersection(counted)):
        kind, _, resource = name.rpartition(".")
        found = [
            one.name for one in pod.containers if resource not in (one.limits if kind == "limits" else one.requests)
        ]
        if found:
            lacking[name if kind else f"requests.{resource}"] = found
    return lacking


def charged(pod: RunPod) -> dict[str, Decimal]:
    """Return what a quota counts of a pod, by the names that quotas have for it."""
    requests, limits = totals(pod, "requests"), totals(pod, "limits")
    return {
        **{f"requests.{name}": amount for name, amount in requests.items()},
        **{f"limits.{name}": amount for name, amount in limits.items()},
        **{name: requests[name] for name in ("cpu", "memory") if name in requests},
        "pods": Decimal(1),
        "count/pods": Decimal(1),
    }


def totals(pod: RunPod, kind: str) -> dict[str, Decimal]:
    """Return the requests or limits of a whole pod: the sum of its containers, or more if one that starts it needs more."""
    total: dict[str, Decimal] = {}
    for one in pod.containers:
        if not one.starts:
            for name, amount in getattr(one, kind).items():
                total[name] = total.get(name, Decimal(0)) + amount
    for one in pod.containers:
        if one.starts:
            for name, amount in getattr(one, kind).items():
                total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def _outside(item: Any, who: str, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for name, least in amounts(item.get("min")).items():
        if (there := requests.get(name, Decimal(0))) < least:
            yield f"{who}: requests {shown(name, there)} {name}, at least {shown(name, least)} is wanted"
    for name, most in amounts(item.get("max")).items():
        if name not in limits:
            yield f"{who}: has no limit on {name}, at most {shown(name, most)} is allowed"
        elif limits[name] > most:
            yield f"{who}: takes {shown(name, limits[name])} {name}, at most {shown(name, most)} is allowed"


def _items(limit_ranges: Iterable[Any], kind: str) -> Iterator[Any]:
    for limit_range in limit_ranges:
        for item in limit_range["spec"].get("limits", []):
            if item.get("type") == kind:
                yield item
