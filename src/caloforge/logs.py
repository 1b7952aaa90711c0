"""Log lines that people read: time, two spaces, message."""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import TextIO

from caloforge.secrets import masked

LINE = re.compile(r"\d\d:\d\d:\d\d  (?:(?P<level>WARNING|ERROR|CRITICAL): )?(?P<message>.*)")
"""A line that :func:`configure_logging` made; a run picks them out of everything a task writes."""


def first_process() -> bool:
    """Return whether this process is alone, or the first of those that torchrun started."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["RANK"] == "0"


class _LineFormatter(logging.Formatter):
    """Put the time before every line of a message, and the level where it is not INFO; escape control characters."""

    def __init__(self) -> None:
        super().__init__(datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        head = f"{self.formatTime(record, self.datefmt)}  "
        if record.levelno > logging.INFO:
            head += f"{record.levelname}: "
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return "\n".join(head + _printable(line) for line in masked(text).splitlines())


def _printable(line: str) -> str:
    """Return a line that no terminal takes for a command, whoever wrote what it repeats."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Write to what ``sys.stderr`` is at the moment: a caller may have replaced it since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_LineFormatter())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def configure_logging() -> None:
    """Show the package's messages from INFO on, on standard error; a second call changes nothing.

    Of several processes that train together only the first says what all of them do. Warnings of
    other libraries are shown in the same form.
    """
    logger = logging.getLogger("caloforge")
    logger.setLevel(logging.INFO if first_process() else logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines show addresses with their signatures
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    root = logging.getLogger()
    if not root.handlers:
        # kfp logs through the root logger, which then gets a handler that repeats each line of ours.
        others = _StderrHandler()
        others.setLevel(logging.WARNING)
        others.addFilter(lambda record: record.name.partition(".")[0] != "caloforge")
        root.addHandler(others)
