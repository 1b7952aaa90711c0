"""What the task list of the API says of our steps.

The list is that of Argo's nodes. None of them says whose part it is, but each names its children by
identifier, and Argo makes an identifier of a node's full name (FNV-1a, 32 bits): from the pipeline's
specification we know the names, so we know the identifiers too.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from caloforge.pipelines.progress import Progress, State, moment
from caloforge.pipelines.specification import Step

ATTEMPTS = 16
"""More attempts than this nobody has set."""

_STATES: dict[str, State] = {
    "PENDING": "pending", "RUNNING": "running", "SUCCEEDED": "succeeded", "FAILED": "failed",
    "CANCELED": "terminated", "CANCELING": "running", "PAUSED": "running",
}  # fmt: skip


@dataclass(frozen=True)
class _Names:
    """Full names of a step's nodes: its parts are tried again by Argo, or (installations differ) they are not."""

    task: str
    retried: bool

    @property
    def dag(self) -> str:
        return f"{self.task}(0)" if self.retried else self.task

    @property
    def driver(self) -> str:
        return f"{self.task}-driver(0)" if self.retried else f"{self.task}-driver"

    def attempt(self, number: int) -> str:
        return f"{self.dag}.executor({number})"


class Nodes:
    """The task list of one run."""

    def __init__(self, tasks: Iterable[Any]) -> None:
        """Take the tasks as kfp's client gives them."""
        self._tasks = list(tasks)
        self._parents: dict[str, list[Any]] = {}
        for task in self._tasks:
            for child in task.child_tasks or ():
                if child.pod_name:
                    self._parents.setdefault(child.pod_name, []).append(task)
        self.workflow = next(iter(self._parents), "").rpartition("-")[0]

    @property
    def ended(self) -> bool:
        """Whether the list knows of the run's end; where Argo compresses its nodes, it stops before."""
        return not any(task.state in ("RUNNING", "PENDING") for task in self._tasks)

    @property
    def states(self) -> tuple[Any, ...]:
        """All that may change in the list, to compare it with a later one."""
        return tuple((task.task_id, task.state) for task in self._tasks)

    def iterations(self, path: tuple[str, ...]) -> int | None:
        """Return how many iterations a loop has, by its path; None if they are not there yet."""
        number = 0
        while any(
            self._parent(name, f"iteration-iterations({number}:{number})")
            or self._parent(f"{name}.iteration-item", f"iteration-iterations({number}:{number})")
            for name in self._full((*path, f"iteration-iterations({number}:{number})"))
        ):
            number += 1
        return number or None

    def progress(self, step: Step) -> Progress | None:
        """Return the state of a step; None if the list has nothing of it."""
        for names in self._names(step):
            found = self._of_executor(names) or self._of_dag(names, step) or self._of_driver(names, step)
            if found is not None:
                return found
        return None

    def attempts(self, step: Step) -> Iterator[str]:
        """Yield the identifiers that the containers of a step may have, the likeliest first."""
        for names in self._names(step):
            for number in range(2):
                yield self._identifier(names.attempt(number))

    def _names(self, step: Step) -> Iterator[_Names]:
        if self.workflow:
            yield _Names("(0).".join((self.workflow, *step.path)), retried=True)
            yield _Names(".".join((self.workflow, *step.path)), retried=False)

    def _full(self, path: tuple[str, ...]) -> tuple[str, str]:
        return "(0).".join((self.workflow, *path)) + "(0)", ".".join((self.workflow, *path))

    def _identifier(self, name: str) -> str:
        code = 2166136261
        for byte in name.encode():
            code = (code ^ byte) * 16777619 % 2**32
        return f"{self.workflow}-{code}"

    def _parent(self, name: str, *called: str) -> Any | None:
        found = self._parents.get(self._identifier(name), ())
        return next((task for task in found if task.display_name in called), None)

    def _of_executor(self, names: _Names) -> Progress | None:
        """Return what is said of the node that tries the container again."""
        node = self._parent(names.attempt(0), "executor")
        if node is None:
            return None
        numbers = [number for number in range(ATTEMPTS) if self._parent(names.attempt(number), "executor") is node]
        leaves = self._leaves(f"executor({numbers[-1]})", node) if len(numbers) == 1 else []
        state = _STATES.get(node.state or "", "unknown")
        if state == "running" and leaves and all(leaf.state == "PENDING" for leaf in leaves):
            state = "pending"
        return Progress(
            state,
            start=moment(node.start_time),
            end=moment(node.end_time),
            attempt=max(len(numbers), _restarts(leaves)),
            node=self._identifier(names.attempt(numbers[-1])),
        )

    def _leaves(self, name: str, node: Any) -> list[Any]:
        """Return the containers that may be the one of a node: they started with it. Families start together."""
        return [task for task in self._tasks if task.display_name == name and task.start_time == node.start_time]

    def _of_dag(self, names: _Names, step: Step) -> Progress | None:
        """Return what is said of the group around the container."""
        key = step.path[-1]
        node = self._parent(names.dag, key) or self._parent(f"{names.dag}.executor", f"{key}(0)")
        node = node or self._parent(names.attempt(0), key)
        if node is None or node.state is None:
            return None
        state = _STATES.get(node.state, "unknown")
        if state == "running":
            state = "pending"
        elif state == "succeeded" and any(
            task.display_name == "executor" and task.state == "SKIPPED" and task.start_time == node.start_time
            for task in self._tasks
        ):
            state = "cached"
        return Progress(
            state, start=moment(node.start_time), end=moment(node.end_time), node=self._identifier(names.attempt(0))
        )

    def _of_driver(self, names: _Names, step: Step) -> Progress | None:
        """Return what is said of the pod that prepares the container."""
        node = self._parent(names.driver, f"{step.path[-1]}-driver")
        if node is None or node.state is None:
            return None
        failed = node.state == "FAILED"
        return Progress(
            "failed" if failed else "pending",
            start=moment(node.start_time),
            end=moment(node.end_time) if failed else None,
            node=self._identifier(names.driver),
        )


def _restarts(leaves: Sequence[Any]) -> int:
    """Return how often a container was started: Argo gives a pod that was lost the same node again."""
    counts = set()
    for leaf in leaves:
        states = [entry.state for entry in leaf.state_history or ()]
        counts.add(1 + sum(before == "FAILED" for before, _ in pairwise(states)))
    return counts.pop() if len(counts) == 1 else 1
