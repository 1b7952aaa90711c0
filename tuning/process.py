"""A trial as a subprocess, in a group of its own, so that nothing it started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from caloforge.runner import RUNNER

STOP_SECONDS = 20.0
"""Time to save a checkpoint after SIGTERM."""


class TrialProcess:
    """A running trial; ``caloforge trial`` ends by itself when this process is gone.

    Attributes:
        log: file with everything that it writes.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            command: program and arguments.
            log: file to write.
            environment: added to this process' own.
        """
        self.log = log
        self._start = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env={**os.environ, **environment, RUNNER: str(os.getpid())}, start_new_session=True,
            )  # fmt: skip

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.poll()

    def lines(self) -> list[str]:
        """Return the whole lines written so far."""
        text = self.log.read_text(errors="replace", encoding="utf-8")
        return text.splitlines() if self.poll() is not None else text.splitlines()[: text.count("\n")]

    def terminate(self) -> None:
        """Ask it and all that it started to end."""
        self._signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, after it was asked to; SIGKILL if that did not help."""
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # all of them have ended
            os.killpg(self._process.pid, number)
