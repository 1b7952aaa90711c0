"""Read what the processes of a distributed training write: our lines to our log, the rest kept for errors."""

from __future__ import annotations

import logging
from collections import deque

from caloforge.logs import LINE

logger = logging.getLogger(__name__)

TAIL_LINES = 30

_ERROR = "Error: "
"""How the command line begins the one line that it ends with when nothing else would help."""


class WorkerLog:
    """Show log lines as they come, and remember the end of everything.

    Attributes:
        error: message of the error that ended a process, if it was one of ours: it would end each new attempt.
    """

    def __init__(self) -> None:
        self.error: str | None = None
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)

    def feed(self, raw: str) -> None:
        """Take one line."""
        line = raw.rstrip()
        if not line:
            return
        self._tail.append(line)
        if match := LINE.fullmatch(line):
            logger.log(logging.getLevelNamesMapping()[match["level"] or "INFO"], "%s", match["message"])
        elif line.startswith(_ERROR):
            self.error = line.removeprefix(_ERROR)

    def tail(self) -> str:
        """Return the last lines."""
        return "\n".join(self._tail)
