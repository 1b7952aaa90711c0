"""Log the start and end of a pipeline step and keep the seconds it worked."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from caloforge.logs import first_process

logger = logging.getLogger(__name__)

STEP_LOG = "CALOFORGE_STEP_LOG"
"""Environment variable: a file to which each step appends one JSON line with its times."""


def boot() -> str:
    """Return what tells one boot of the machine from another."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:  # not Linux
        return str(round(psutil.boot_time(), -1))


@contextmanager
def step(name: str) -> Iterator[None]:
    """Mark the work of one pipeline step, e.g. ``train vae``.

    Start of the process, of the work and its end are appended to the file that the environment variable names, so
    that a run can tell work from overhead: seconds of the monotonic clock, which all processes of a machine share
    and nobody sets, and the boot since which it counts.
    """
    logger.info("%s: started", name)
    age = max(0.0, time.time() - psutil.Process().create_time())
    start = time.monotonic()
    yield
    end = time.monotonic()
    logger.info("%s: done in %.1f s", name, end - start)
    if (path := os.environ.get(STEP_LOG)) and first_process():
        record = {"step": name, "boot": boot(), "process": start - age, "start": start, "end": end}
        with Path(path).open("a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")
