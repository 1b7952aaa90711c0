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


LOOP_THREADS = "CALOFORGE_LOOP_THREADS"
"""Environment variable: threads of each of the tasks that a local run executes side by side."""


@contextmanager
def task(*, in_loop: bool = False) -> Iterator[None]:
    """Surround the work of a component.

    Args:
        in_loop: tasks of its kind run side by side and share the cores.
    """
    configure_logging()
    if "_KFP_RUNTIME" in os.environ:
        logging.getLogger("caloforge").propagate = False  # kfp's own handler would repeat each line
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # leave with-blocks, stop servers
    if runner := os.environ.get(RUNNER):
        threading.Thread(target=_end_with, args=(int(runner),), daemon=True).start()
    if in_loop and (threads := os.environ.get(LOOP_THREADS)):
        import torch

        torch.set_num_threads(min(int(threads), torch.get_num_threads()))
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
