"""What every component does around its one call: show its log, and end well when it is stopped."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from caloforge.logs import configure_logging

RUNNER = "CALOFORGE_RUNNER_PID"
"""Environment variable: the process of the local run that a task belongs to."""


@contextmanager
def task() -> Iterator[None]:
    """Surround the work of a component."""
    configure_logging()
    if "_KFP_RUNTIME" in os.environ:
        logging.getLogger("caloforge").propagate = False  # kfp's own handler would repeat each line
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave with-blocks, stop servers
    if runner := os.environ.get(RUNNER):
        threading.Thread(target=_end_with, args=(int(runner),), daemon=True).start()
    yield


def _end_with(pid: int) -> None:
    """Stop this process once the run that started it is gone: nobody waits for its result.

    Without this a killed run leaves a training behind that writes to the checkpoints while the
    next run reads them.
    """
    try:
        runner = psutil.Process(pid)
        while runner.is_running() and runner.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
