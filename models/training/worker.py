"""Run a training in a process of its own: show what it logs, stop it in time, say what ended it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from caloforge.child import Child, how_it_ended
from caloforge.errors import InputError
from caloforge.memory import watch_memory
from caloforge.models.training.worker_log import WorkerLog

LAST_SECONDS = 5.0
"""A process that has said what is wrong ends by itself within so long; torchrun starts it anew instead."""

_WRONG_INPUT = 2
"""Exit status of the command line for what only the user can mend."""

_STOPPED = 128 + signal.SIGTERM
"""Exit status of a training that was told to end and has saved its state."""


class TrainingFailed(RuntimeError):
    """A training failed; the message is its own last word, or ends with what it wrote last."""


def follow(
    command: Sequence[str], *, what: str, environment: Mapping[str, str] | None = None, seconds: float | None = None
) -> None:
    """Run a command that trains, to its end.

    It may save itself when this process is interrupted and when its time is over, and is killed alone when the
    container is about to run out of memory (:mod:`caloforge.memory`).

    Args:
        command: program and arguments; its lines in the package's format are logged.
        what: it is, for messages.
        environment: on top of this process' own.
        seconds: it may take, None for no bound.

    Raises:
        InputError: it says that something it was given is wrong.
        TrainingFailed: it failed otherwise, took too long, or needed more memory than there is.
        SystemExit: it was told to end, and has saved itself.
    """
    log = WorkerLog()
    with (
        Child(command, what=what, environment=environment, hear=log.feed) as child,
        watch_memory(child.kill) as memory,
        child.bounded(seconds),
    ):
        child.read(enough=lambda: log.error is not None)
        code = _status(child, log)
    if memory.exceeded and code != 0:
        raise TrainingFailed(f"OOMKilled: memory is {memory.limit}")
    if child.expired:
        raise TrainingFailed(f"out of time: not done after {round(seconds or 0, 1):g} s")
    if log.error is not None:
        raise InputError(log.error) if code == _WRONG_INPUT else TrainingFailed(log.error)
    if code == _STOPPED:
        sys.exit(code)
    if code:
        raise TrainingFailed(f"{what} {how_it_ended(code)}; it ended with:\n{log.tail()}")


def _status(child: Child, log: WorkerLog) -> int | None:
    """Return the exit status, None if it goes on although it has said what is wrong."""
    with suppress(subprocess.TimeoutExpired):
        return child.wait(None if log.error is None else LAST_SECONDS)
    return None
