"""A process that this one starts: apart, so that it may save itself, and never left behind with what it started."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Self

import psutil

from caloforge.runner import RUNNER

logger = logging.getLogger(__name__)

STOP_SECONDS = 40.0
"""How long a process that is told to end may take to save itself; torchrun gives its workers 30 of them."""

TAIL_LINES = 30
"""So many of the last lines say why a process failed."""


class Child:
    """A running process in a session of its own.

    Ctrl-C reaches the process that started it alone, which tells it to end. Tasks, trials, trainings and servers
    end by themselves when that process is gone (:mod:`caloforge.runner`).

    As a context it is told to end when the block is left, whatever the reason, and waited for.

    Attributes:
        log: file with everything that it writes; None if its lines are taken in by :meth:`read`.
        expired: whether it was told to end because its time was up.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        what: str,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        hear: Callable[[str], None] = lambda line: None,
        given: str | None = None,
    ) -> None:
        """Start it.

        Args:
            command: program and arguments.
            what: it is, for messages.
            environment: on top of this process' own.
            log: file for all that it writes.
            hear: without a log file, takes each line that it writes.
            given: text for its standard input.
        """
        self.log, self.expired = log, False
        self._what, self._hear, self._started = what, hear, time.monotonic()
        self._family: list[psutil.Process] = []
        self._killing: threading.Timer | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") if log is not None else nullcontext() as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
                stdout=file or subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, encoding="utf-8", errors="replace", start_new_session=True,
                # PYTHONSAFEPATH: a folder called caloforge in the current directory is not the package.
                env={**os.environ, "PYTHONSAFEPATH": "1", **(environment or {}), RUNNER: str(os.getpid())},
            )  # fmt: skip
        if given is not None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError), self._process.stdin as stream:  # its own end says what is wrong
                stream.write(given)

    def read(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Have its lines heard until it, and what it started, has closed its output, or there are enough of them."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(line)
            if enough():
                return

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        return self._process.poll()

    def lines(self) -> list[str]:
        """Return the whole lines of its log file so far; all of it once it has ended."""
        assert self.log is not None
        over = self.poll() is not None  # before reading: what is read then is all of it
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return text.splitlines() if over else text.splitlines()[: text.count("\n")]

    def tail(self) -> str:
        """Return the last lines of its log file."""
        return "\n".join(self.lines()[-TAIL_LINES:])

    def terminate(self) -> None:
        """Tell it and all that it started to end; what has not after :data:`STOP_SECONDS` is killed."""
        if self._killing is not None or self.poll() is not None:
            return
        self._family = self._descendants()
        self._killing = threading.Timer(STOP_SECONDS, self._too_late)
        self._killing.daemon = True
        self._killing.start()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and all that it started at once; torchrun's workers have sessions of their own."""
        for one in {*self._family, *self._descendants()}:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        if self.poll() is None:
            self._process.kill()

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end, and for that of what it started if it was told to end; return the exit status.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        code = self._process.wait(seconds)
        while any(map(_runs, self._family)):
            time.sleep(0.05)
        if self._killing is not None:
            self._killing.cancel()
        return code

    @contextmanager
    def bounded(self, seconds: float | None) -> Iterator[None]:
        """Tell it to end when it has run for so long; None for no bound."""

        def expire() -> None:
            self.expired = True
            self.terminate()

        timer = threading.Timer(seconds or 0, expire)
        timer.daemon = True
        if seconds is not None:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.poll() is None:
            self.terminate()
            if self._process.stdout is not None:
                self.read()  # its last lines say whether it could save itself
        self.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _descendants(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            found: list[psutil.Process] = psutil.Process(self._process.pid).children(recursive=True)
            return found
        return []

    def _too_late(self) -> None:
        logger.warning("%s did not end within %g s of SIGTERM and is killed", self._what, STOP_SECONDS)
        self.kill()


def _runs(process: psutil.Process) -> bool:
    """Return whether a process runs; one that nobody has asked for its exit status does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def how_it_ended(code: int) -> str:
    """Return an exit status that is not 0 in words: ``was killed (SIGSEGV)``, ``failed (exit status 1)``."""
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"failed (exit status {code})"
