"""End a process with the one that started it, even if that was killed and could tell nobody."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil

RUNNER = "CALOFORGE_RUNNER_PID"
"""Environment variable: the process of the run, or of the tuning, that a task or trial belongs to."""


def end_with_runner() -> None:
    """Have SIGTERM sent to this process once its run is gone: nobody waits for its result.

    Without this a killed run leaves a training behind that writes to the checkpoints while the
    next run reads them. Does nothing in a process that belongs to no run.
    """
    if runner := os.environ.get(RUNNER):
        threading.Thread(target=_watch, args=(int(runner),), daemon=True).start()


def _watch(pid: int) -> None:
    try:
        runner = psutil.Process(pid)
        while runner.is_running() and runner.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
