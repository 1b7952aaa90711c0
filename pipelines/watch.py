"""Waiting for the end of a run, and telling what changes."""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from caloforge.pipelines.kubeflow import Kubeflow
from caloforge.pipelines.progress import clock
from caloforge.pipelines.status import RunError, Status, StepStatus, Watcher

logger = logging.getLogger(__name__)

WAITING_SECONDS = 30.0
"""A container that does not run after so long is worth a line."""

_CAUSES_SHOWN = 3


class Changes:
    """Remembers what was told of a run, so that each change is told once."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, int]] = {}
        self._waits: set[str] = set()

    def of(self, now: Status) -> Iterator[tuple[int, str]]:
        """Yield level and text of a line for each change since the last look."""
        for one in now.steps:
            progress = one.progress
            told, what = self._told.get(one.title), (progress.state, progress.attempt)
            if progress.state == "pending" and (line := self._wait(one)):
                yield logging.WARNING, line
            # That a step will be prepared, or was not run in the end, is no news.
            if told == what or progress.state in ("waiting", "pending", "not run"):
                continue
            self._told[one.title] = what
            yield (logging.ERROR if progress.state == "failed" else logging.INFO), change_line(one)

    def _wait(self, one: StepStatus) -> str:
        start = one.progress.start
        if start is None or one.title in self._waits:
            return ""
        seconds = (datetime.now(UTC) - start).total_seconds()
        if seconds < WAITING_SECONDS:
            return ""
        self._waits.add(one.title)
        reason = one.progress.cause or "only the cluster knows why"
        return f"{one.title}: does not start for {clock(seconds)}: {reason}"


def change_line(one: StepStatus) -> str:
    """Return one line of what has become of a step."""
    progress = one.progress
    line = f"{one.title}: {'from the cache' if progress.state == 'cached' else progress.state}"
    if progress.state in ("succeeded", "failed", "terminated") and progress.seconds is not None:
        line += f" after {clock(progress.seconds)}"
    if progress.attempt > 1:
        line += f", attempt {progress.attempt}"
    return f"{line}: {progress.cause}" if progress.cause else line


def wait(kubeflow: Kubeflow, run_id: str, *, show: Callable[[Status], None] | None = None) -> Status:
    """Wait for the end of a run.

    Args:
        kubeflow: where it runs.
        run_id: of the run.
        show: is given the state at each look; without it each change is logged.

    Raises:
        RunError: it did not succeed.
    """
    watcher, changes = Watcher(kubeflow, run_id), Changes()

    def log(now: Status) -> None:
        for level, line in changes.of(now):
            logger.log(level, "%s", line)

    while True:
        now = watcher.look()
        (show or log)(now)
        if now.finished:
            break
        time.sleep(kubeflow.poll_seconds)
    if now.state != "succeeded":
        raise RunError(end_line(now))
    return now


def end_line(now: Status) -> str:
    """Return one line of how a run ended, and why."""
    causes = [*now.causes[:_CAUSES_SHOWN], *(["..."] if len(now.causes) > _CAUSES_SHOWN else [])]
    if now.state == "terminated":
        return f"run {now.name!r} was terminated" + (f" ({'; '.join(causes)})" if causes else "")
    return f"run {now.name!r} {now.state}: {'; '.join(causes) or f'no step says why; see {now.link}'}"
