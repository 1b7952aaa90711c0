"""How a run on Kubeflow is doing, and waiting for its end."""

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from caloforge.pipelines.kubeflow import Kubeflow

logger = logging.getLogger(__name__)

FINISHED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
"""States that do not change any more; kfp's own wait does not know the last and waits for ever."""

_INNER = ("root", "executor", "iteration-item", "iteration-iterations")
"""Names of nodes that stand for a part of a task."""


class RunError(RuntimeError):
    """A run did not succeed; the message names the tasks that failed."""


@dataclass(frozen=True)
class Task:
    """A task of a run.

    Attributes:
        identifier: of the task; a loop has several of one name.
        name: as the user interface shows it.
        state: in Kubeflow's words.
        start: when it started.
        end: when it ended.
        error: what it died of.
    """

    identifier: str
    name: str
    state: str
    start: datetime | None
    end: datetime | None
    error: str

    @property
    def seconds(self) -> float | None:
        """How long it took, or has been running."""
        return None if self.start is None else ((self.end or datetime.now(UTC)) - self.start).total_seconds()


@dataclass(frozen=True)
class Status:
    """State of a run.

    Attributes:
        run_id: of the run.
        name: of the run.
        state: in Kubeflow's words.
        error: what it died of.
        tasks: in the order in which they started.
        link: page of the user interface.
    """

    run_id: str
    name: str
    state: str
    error: str
    tasks: tuple[Task, ...]
    link: str

    @property
    def finished(self) -> bool:
        """Whether it is over."""
        return self.state in FINISHED

    @property
    def failed(self) -> tuple[Task, ...]:
        """The tasks that failed, those first that did so first."""
        return tuple(
            sorted(
                (task for task in self.tasks if task.state == "FAILED"),
                key=lambda task: task.end or datetime.max.replace(tzinfo=UTC),
            )
        )


def status(kubeflow: Kubeflow, run_id: str) -> Status:
    """Return the state of a run and of its tasks."""
    run = kubeflow.ask(f"read run {run_id!r}", kubeflow.client.get_run, run_id)
    details = (run.run_details.task_details if run.run_details else None) or []
    tasks = tuple(_task(detail) for detail in details if _is_task(detail))
    return Status(
        run_id=run.run_id,
        name=run.display_name or run.run_id,
        state=run.state or "PENDING",
        error=_message(run.error),
        tasks=tuple(sorted(tasks, key=lambda task: (task.start or datetime.max.replace(tzinfo=UTC), task.name))),
        link=kubeflow.link(f"runs/details/{run.run_id}"),
    )


def wait(kubeflow: Kubeflow, run_id: str) -> Status:
    """Wait for the end of a run, and log each change of a task.

    Args:
        kubeflow: where it runs.
        run_id: of the run.

    Raises:
        RunError: it did not succeed.
    """
    seen: dict[str, str] = {}
    while not (now := status(kubeflow, run_id)).finished:
        _show_changes(now, seen)
        time.sleep(kubeflow.poll_seconds)
    _show_changes(now, seen)
    if now.state != "SUCCEEDED":
        raise RunError(_failure(now))
    return now


def _show_changes(now: Status, seen: dict[str, str]) -> None:
    for task in now.tasks:
        if seen.get(task.identifier, "PENDING") != task.state:
            seen[task.identifier] = task.state
            took = f" after {task.seconds:.0f} s" if task.end and task.seconds is not None else ""
            logger.info("%s: %s%s", task.name, task.state.lower(), took)


def status_lines(now: Status) -> list[str]:
    """Return the state of a run as lines that people read."""
    lines = [f"{now.name}: {now.state.lower()}{f' ({now.error})' if now.error else ''}"]
    width = max((len(task.name) for task in now.tasks), default=0)
    for task in now.tasks:
        took = "" if task.seconds is None else f"{task.seconds:8.0f} s"
        lines.append(f"  {task.name:<{width}}  {task.state.lower():<10}{took}{f'  {task.error}' if task.error else ''}")
    return [*lines, f"page: {now.link}"]


def _failure(now: Status) -> str:
    tasks = "; ".join(f"task {task.name!r}{f': {task.error}' if task.error else ''}" for task in now.failed)
    what = tasks or now.error or "no task says why"
    return f"run {now.name!r} ended {now.state.lower()}: {what} (logs: {now.link})"


def _is_task(detail: Any) -> bool:
    """Return whether a node is a task that people know, not a driver or a group around it."""
    name = detail.display_name or ""
    return bool(name) and not name.endswith("-driver") and name not in _INNER


def _task(detail: Any) -> Task:
    return Task(
        identifier=detail.task_id,
        name=detail.display_name,
        state=detail.state or "PENDING",
        start=detail.start_time,
        end=detail.end_time if detail.state in FINISHED else None,
        error=_message(detail.error),
    )


def _message(error: Any) -> str:
    return " ".join((error.message or "").split()) if error else ""
