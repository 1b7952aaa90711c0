"""How a run on Kubeflow is doing: our steps, and why one failed or waits."""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from caloforge.ending import read_ending
from caloforge.errors import InputError, unknown_name
from caloforge.pipelines import step_log
from caloforge.pipelines.kubeflow import Kubeflow, Refused
from caloforge.pipelines.nodes import Nodes
from caloforge.pipelines.progress import ENDED, Progress, State, moment
from caloforge.pipelines.run_pods import RunPods
from caloforge.pipelines.specification import Step, is_ours, pipeline_name, steps_of

logger = logging.getLogger(__name__)

FINISHED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")
"""States of a run that do not change any more; kfp's own wait does not know the last and waits for ever."""

STILL_SECONDS = 60.0
"""Where the task list has not changed for so long and no pod is seen, the steps' logs are asked instead."""

NO_CAUSE = "its log does not say why"
NO_LOG = "its log, which would say why, cannot be read"
_STOPPED = ("stopped: SIGTERM", "stopped: SIGKILL", "stopped: SIGINT")


class RunError(RuntimeError):
    """A run did not succeed; the message says why."""


@dataclass(frozen=True)
class StepStatus:
    """A step of a run, of one family.

    Attributes:
        step: which.
        progress: how it is doing.
    """

    step: Step
    progress: Progress

    @property
    def title(self) -> str:
        """As people read it: ``train [vae]``."""
        return self.step.title


@dataclass(frozen=True)
class Status:
    """State of a run.

    Attributes:
        run_id: of the run.
        name: of the run.
        state: pending, running, succeeded, failed, terminating, terminated, or another word of Kubeflow's.
        error: what Kubeflow says of it; mostly nothing.
        steps: in the pipeline's order.
        notes: what the reader should know besides.
        link: page of the user interface.
    """

    run_id: str
    name: str
    state: str
    error: str
    steps: tuple[StepStatus, ...]
    notes: tuple[str, ...]
    link: str

    @property
    def finished(self) -> bool:
        """Whether it is over."""
        return _over(self.state)

    @property
    def causes(self) -> tuple[str, ...]:
        """What failed and why, the first first: ``train [vae]: OOMKilled: memory is 3Gi``."""
        failed = [one for one in self.steps if one.progress.state == "failed"]
        failed.sort(key=lambda one: one.progress.end or datetime.max.replace(tzinfo=UTC))
        causes = [f"{one.title}: {one.progress.cause}" for one in failed]
        return tuple(causes) or ((self.error,) if self.error else ())


class Watcher:
    """Looks at one run; what does not change any more is asked for once."""

    def __init__(self, kubeflow: Kubeflow, run_id: str) -> None:
        self.kubeflow, self.run_id = kubeflow, run_id
        self._pods = RunPods(run_id, kubeflow.namespace)
        self._specification: Mapping[str, Any] | None = None
        self._logs: dict[str, str | None] = {}
        self._logged: dict[Step, Progress] = {}
        self._list: tuple[Any, ...] = ()
        self._list_since = time.monotonic()

    def look(self) -> Status:
        """Return the state of the run and of its steps.

        Raises:
            Refused: it is not there, or may not be read.
        """
        run = self.kubeflow.run(self.run_id)
        specification, notes = self._read_specification(run), []
        if not specification:
            notes.append("what it was made of is not there any more, so its steps are not known")
        elif not is_ours(specification):
            notes.append(f"a run of the pipeline {pipeline_name(specification)!r}, which is none of caloforge's")
        if run.storage_state == "ARCHIVED":
            notes.append("archived")
        nodes = Nodes((run.run_details.task_details if run.run_details else None) or ())
        parameters = (run.runtime_config.parameters if run.runtime_config else None) or {}
        steps = steps_of(specification, parameters, nodes.iterations) if specification else ()
        self._pods.look()
        state, stopped_at = _state(run)
        read = _Reading(state, stopped_at, nodes)
        progress = [self._progress(step, read) for step in steps]
        if not read.finished and self._stands_still(nodes):
            self._ask_logs(steps, progress, nodes)
        if read.finished and not nodes.ended and not self._pods.known:
            notes.append("Kubeflow's list of its tasks ends in the middle of the run; its pods would tell more")
        return Status(
            run_id=self.run_id,
            name=run.display_name or self.run_id,
            state=state,
            error=_message(run.error),
            steps=tuple(StepStatus(*one) for one in zip(steps, progress, strict=True)),
            notes=tuple(notes),
            link=self.kubeflow.link(f"runs/details/{self.run_id}"),
        )

    def log(self, name: str, family: str | None = None) -> list[str]:
        """Return the lines of a step's log that are not the launcher's.

        Args:
            name: of the step.
            family: which, where the step runs for each.

        Raises:
            InputError: there is no such step, it has not run, or nobody has its log.
        """
        now = self.look()
        found = [one for one in now.steps if one.step.name == name]
        if not found:
            raise unknown_name("step", name, {one.step.name for one in now.steps})
        families = [one.step.family for one in found]
        if family is not None and family not in families:
            raise unknown_name(f"family of step {name!r}:", family, families)
        chosen = [one for one in found if family in (None, one.step.family)]
        if len(chosen) > 1:
            raise InputError(f"step {name!r} runs for each family; choose with --family: {', '.join(families)}")
        [one] = chosen
        if one.progress.state in ("waiting", "not run", "cached"):
            text = {
                "waiting": "has not started yet",
                "not run": "was not run",
                "cached": "was taken from the cache; its log is that of an earlier run",
            }[one.progress.state]
            raise InputError(f"{one.title}: {text}")
        text_of = self._pods.log(one.step) or (
            self.kubeflow.step_log(self.run_id, one.progress.node) if one.progress.node else None
        )
        if text_of is None:
            reason = one.progress.cause or "its pod is gone, and no archive of logs has it"
            raise InputError(f"{one.title}: there is no log: {reason}")
        return list(step_log.own_lines(text_of))

    def _read_specification(self, run: Any) -> Mapping[str, Any]:
        if self._specification is None:
            self._specification = {}
            try:
                self._specification = self.kubeflow.specification(run)
            except Refused as error:
                if error.status in (401, 403):
                    raise
        return self._specification

    def _progress(self, step: Step, read: "_Reading") -> Progress:
        listed, seen = read.nodes.progress(step), self._pods.progress(step)
        now = _later(listed, seen) or Progress("waiting")
        if now.state not in ENDED:
            now = self._logged.get(step, now)
        if read.finished and now.state not in ENDED:
            now = self._at_the_end(step, now, read)
        if now.state == "failed" and (not now.cause or now.cause.startswith("exit code")):
            now = replace(now, cause=step_log.cause(self._log(now.node) or "") or now.cause)
        elif now.state == "succeeded" and step.family and not (seen and seen.state == "succeeded"):
            # A step ends well for the run although its family failed; its pod would have said so.
            ending = read_ending(self._log(now.node) or "")
            if ending is not None and ending.state == "failed":
                now = replace(now, state="failed", cause=ending.cause)
        stopped = read.stopped_at is not None and now.end is not None and now.end >= read.stopped_at
        if now.state == "failed" and stopped and now.cause in ("", *_STOPPED):
            return replace(now, state="terminated", cause="")
        if now.state == "failed" and not now.cause:
            return replace(now, cause=NO_LOG if self._log(now.node) is None else NO_CAUSE)
        return now

    def _at_the_end(self, step: Step, now: Progress, read: "_Reading") -> Progress:
        """Return the state of a step of a run that is over, where nobody saw the step end."""
        if read.state == "succeeded":
            # Every step of such a run has, but those that only a condition would have started.
            state: State = "succeeded"
            if self._pods.prepared_only(step):
                state = "cached"
            elif step.conditional and now.state == "waiting":
                state = "not run"
            node = now.node or next(read.nodes.attempts(step), "")
            return replace(now, state=state, end=None, node=node, cause="")
        if read.nodes.ended and now.state == "waiting":
            return replace(now, state="not run")
        for node in [now.node] if now.node else list(read.nodes.attempts(step)):
            ending = read_ending(self._log(node) or "")
            if ending is not None:
                return replace(now, state=ending.state, end=None, node=node, cause=ending.cause)
        if now.state == "waiting":
            return replace(now, state="unknown")
        if read.stopped_at is not None and not now.cause:
            return replace(now, state="terminated", end=None)
        # A pod that never ran says why; the run's end is its own.
        return replace(now, state="failed" if now.cause else "unknown", end=None)

    def _stands_still(self, nodes: Nodes) -> bool:
        """Return whether it is time to ask the logs; Argo stops the list of a large run in the middle of it."""
        now = time.monotonic()
        if self._pods.known or nodes.states != self._list:
            self._list, self._list_since = nodes.states, now
        if now - self._list_since < STILL_SECONDS:
            return False
        self._list_since = now  # the next time is as far away
        return True

    def _ask_logs(self, steps: Sequence[Step], progress: list[Progress], nodes: Nodes) -> None:
        """Bring up to date what may have gone on since the list stopped, by the steps' logs."""
        for place, step in enumerate(steps):
            before = [
                one
                for one, other in zip(progress[:place], steps[:place], strict=True)
                if not (step.family and other.family) or other.family == step.family
            ]
            if progress[place].state in ENDED or any(one.state not in ENDED for one in before):
                continue
            for node in nodes.attempts(step):
                if (text := self.kubeflow.step_log(self.run_id, node)) is None:
                    continue
                ending = read_ending(text)
                if ending is not None:
                    self._logs[node] = text
                state: State = ending.state if ending else "running"
                cause = ending.cause if ending else ""
                progress[place] = self._logged[step] = replace(progress[place], state=state, node=node, cause=cause)

    def _log(self, node: str) -> str | None:
        if node and node not in self._logs:
            self._logs[node] = None
            with suppress(Refused):
                self._logs[node] = self.kubeflow.step_log(self.run_id, node)
        return self._logs.get(node)


@dataclass(frozen=True)
class _Reading:
    """What the record of a run says, for all of its steps."""

    state: str
    stopped_at: datetime | None
    nodes: Nodes

    @property
    def finished(self) -> bool:
        return _over(self.state)


def status(kubeflow: Kubeflow, run_id: str) -> Status:
    """Return the state of a run and of its steps."""
    return Watcher(kubeflow, run_id).look()


def _over(state: str) -> bool:
    return state.upper() in FINISHED or state == "terminated"


def _state(run: Any) -> tuple[str, datetime | None]:
    """Return the state of a run and when it was terminated: Kubeflow calls such a run failed in the end."""
    state = str(run.state or "PENDING")
    stopped = [one for one in run.state_history or () if one.state in ("CANCELING", "CANCELED")]
    if stopped and state != "SUCCEEDED":
        return "terminated" if state in FINISHED else "terminating", moment(stopped[0].update_time)
    return {"CANCELED": "terminated", "CANCELING": "terminating"}.get(state, state.lower()), None


def _later(listed: Progress | None, seen: Progress | None) -> Progress | None:
    """Return the better of what the API lists and what a pod says: the one that is further on."""
    if listed is None or seen is None:
        return listed or seen
    if listed.state in ENDED:
        # Kubeflow may have given up a pod that still says what it waits for.
        cause = seen.cause if seen.state == "failed" or listed.state == "failed" else ""
        state: State = "failed" if listed.state == "succeeded" and seen.state == "failed" else listed.state
        return replace(listed, state=state, cause=cause, attempt=max(listed.attempt, seen.attempt))
    if listed.state == "running" and seen.state == "pending" and not seen.node:
        return listed  # its container's pod has been cleaned away, what is seen is the one before it
    start = min(filter(None, (listed.start, seen.start)), default=None)
    return replace(seen, start=start, attempt=max(listed.attempt, seen.attempt), node=seen.node or listed.node)


def _message(error: Any) -> str:
    return " ".join((error.message or "").split()) if error else ""
