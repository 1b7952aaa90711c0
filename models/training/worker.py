"""Run a training in a process of its own: show what it logs, stop it in time, say what ended it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from caloforge.errors import InputError
from caloforge.memory import watch_memory
from caloforge.models.training.worker_log import WorkerLog
from caloforge.runner import RUNNER

STOP_SECONDS = 40.0
"""How long processes may take to save themselves; torchrun itself gives them 30 seconds."""

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
    log, clock = WorkerLog(), _Clock()
    # A session of its own: Ctrl-C is for this process, which lets the other save itself.
    with (
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", start_new_session=True,
            env={**os.environ, "PYTHONSAFEPATH": "1", **(environment or {}), RUNNER: str(os.getpid())},
        ) as process,
        watch_memory(lambda: _kill(process)) as memory,
        _bounded(process, seconds, clock),
        _stopped_at_the_end(process, log),
    ):  # fmt: skip
        code = _read(process, log)
    if memory.exceeded and code != 0:
        raise TrainingFailed(f"OOMKilled: memory is {memory.limit}")
    if clock.expired:
        raise TrainingFailed(f"out of time: not done after {round(seconds or 0, 1):g} s")
    if log.error is not None:
        raise InputError(log.error) if code == _WRONG_INPUT else TrainingFailed(log.error)
    if code == _STOPPED:
        sys.exit(code)
    if code:
        how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"failed (exit status {code})"
        raise TrainingFailed(f"{what} {how}; it ended with:\n{log.tail()}")


@dataclass
class _Clock:
    expired: bool = False


def _read(process: subprocess.Popen[str], log: WorkerLog) -> int | None:
    """Log what a process writes; return its exit status, None if it goes on although it has failed."""
    assert process.stdout is not None
    for line in process.stdout:
        log.feed(line)
        if log.error is not None:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(LAST_SECONDS)
            return None
    return process.wait()


@contextmanager
def _bounded(process: subprocess.Popen[str], seconds: float | None, clock: _Clock) -> Iterator[None]:
    killing = threading.Timer(STOP_SECONDS, lambda: _kill(process))
    killing.daemon = True

    def expire() -> None:
        clock.expired = True
        killing.start()
        process.terminate()  # what waits for a TrainJob deletes it: it would go on for nobody

    timer = threading.Timer(seconds or 0, expire)
    if seconds is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        killing.cancel()


@contextmanager
def _stopped_at_the_end(process: subprocess.Popen[str], log: WorkerLog) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            assert process.stdout is not None
            process.terminate()
            timer = threading.Timer(STOP_SECONDS, lambda: _kill(process))
            timer.start()
            for line in process.stdout:  # says whether they could save themselves
                log.feed(line)
            timer.cancel()


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started at once; torchrun's workers have sessions of their own."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        for one in [*first.children(recursive=True), first]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
