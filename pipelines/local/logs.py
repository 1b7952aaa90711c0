"""Turn what kfp.local writes into a full log file and a few lines that people read."""

import logging
import re
import textwrap
from collections import deque
from typing import TextIO

from caloforge.ending import MARK, read_ending
from caloforge.logs import LINE
from caloforge.secrets import masked

logger = logging.getLogger(__name__)

TAIL_LINES = 30

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_THREAD = re.compile(r"(\d+)\t(.*)")
_TASK_STARTS = re.compile(r".* - INFO - Executing task '(.+)'")
_TASK_FAILS = re.compile(r".* - ERROR - Task '.+' finished with status FAILURE")
_TASK_SUCCEEDS = re.compile(r".* - INFO - Task '.+' finished with status SUCCESS")
_TASK_KEPT = re.compile(r"Task (\S+) cache hit .*")
_STEP_STARTS = re.compile(r"(.+): started")
_CHAINED = ("The above exception was", "During handling of the above")
_INPUT_ERROR = re.compile(r"caloforge\.errors\.InputError: (.+)")


class _Task:
    """What one thread's task wrote so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.over = False
        self.cause = ""
        self.input_error: str | None = None

    def add(self, line: str) -> None:
        """Keep a line; what came before a traceback is of no use, unless it is the exception's cause."""
        begins = line.strip().startswith("Traceback (most recent call last)")
        if begins and not (self.tail and self.tail[-1].strip().startswith(_CHAINED)):
            self.tail.clear()
        self.tail.append(line)


class RunLog:
    """Sort the lines of a run: all to the file, ours to the log, the failed task's kept."""

    def __init__(self, file: TextIO) -> None:
        """Take the open log file."""
        self._file = file
        self._tasks: dict[str, _Task] = {}
        self._failure: _Task | None = None

    def feed(self, raw: str) -> None:
        """Take one line of the run's output."""
        line = masked(_COLOUR.sub("", raw.rstrip("\n")))
        thread = ""
        if match := _THREAD.fullmatch(line):
            thread, line = match.groups()
        if line.strip():
            self._file.write(line + "\n")
            self._file.flush()
        text = line.strip()
        task = self._tasks.setdefault(thread, _Task("pipeline"))
        if match := _TASK_STARTS.fullmatch(text):
            self._tasks[thread] = _Task(match[1])
        elif match := _TASK_KEPT.fullmatch(text):
            logger.info("%s: kept from an earlier run", match[1])
        elif _TASK_FAILS.fullmatch(text):
            logger.error("%s: failed", task.name)
            self._failure = self._failure or task
            task.over = True
        elif _TASK_SUCCEEDS.fullmatch(text) and task.cause:
            logger.warning("%s: failed, and the run goes on: %s", task.name, task.cause)
        elif text.startswith(MARK):
            ending = read_ending(text)
            task.cause = ending.cause if ending is not None else ""
            return  # it is for us, and no part of what people read
        elif match := LINE.fullmatch(text):
            self._show(task, match)
        elif match := _INPUT_ERROR.fullmatch(text):
            task.input_error = match[1]
        if text and not task.over:
            task.add(line)

    def _show(self, task: _Task, match: re.Match[str]) -> None:
        message = match["message"]
        if step := _STEP_STARTS.fullmatch(message):
            task.name = step[1]  # kfp calls all iterations of a loop the same
        logger.log(logging.getLevelNamesMapping()[match["level"] or "INFO"], "%s", message)

    @property
    def failed(self) -> str | None:
        """Name of the first task that failed, if any."""
        return self._failure.name if self._failure else None

    @property
    def input_error(self) -> str | None:
        """Message of the :class:`caloforge.errors.InputError` that ended it, if that it was."""
        return self._failure.input_error if self._failure else None

    @property
    def cause(self) -> str:
        """Why the first task that failed did, in one line; empty if it did not say."""
        return self._failure.cause if self._failure else ""

    def tail(self) -> str:
        """Return the last lines of the failed task, or of what was outside of tasks."""
        tasks = [self._failure] if self._failure else list(self._tasks.values())
        return textwrap.dedent("\n".join(line for task in tasks for line in task.tail))
