"""The line that ends a step: what a pod and a log carry on, and what tells why a run failed."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from caloforge.errors import InputError
from caloforge.secrets import masked

MARK = "caloforge-end: "
"""Begins the line in a step's log; JSON follows."""

TERMINATION_LOG = Path("/dev/termination-log")
"""What is written here a pod shows as its container's message (Kubernetes' default path)."""

MESSAGE_BYTES = 4096
"""Kubernetes keeps no more of a message."""

_CAUSE_CHARACTERS = 1000


@dataclass(frozen=True)
class Ending:
    """How a step ended.

    Attributes:
        step: name of the step.
        family: of the loop's iteration; empty outside of the loop.
        state: how it ended; a step may end well for the run although its family failed.
        cause: one line; empty if it succeeded.
    """

    step: str
    family: str
    state: Literal["succeeded", "failed"]
    cause: str = ""

    @property
    def line(self) -> str:
        """As it stands in the log."""
        content = {"step": self.step, "family": self.family, "state": self.state, "cause": self.cause}
        return MARK + json.dumps({key: value for key, value in content.items() if value})


def write_ending(ending: Ending) -> None:
    """Write the marked line to standard error, and the cause to where the pod reads it.

    On a machine without such a file, and where it cannot be written, the log is all there is.
    """
    sys.stderr.write(ending.line + "\n")
    sys.stderr.flush()
    if ending.cause and TERMINATION_LOG.exists():
        message = ending.cause.encode()[:MESSAGE_BYTES].decode(errors="ignore")
        with suppress(OSError):
            TERMINATION_LOG.write_text(message, encoding="utf-8")


def read_ending(log: str) -> Ending | None:
    """Return the last marked line of a log; None if there is none."""
    for line in reversed(log.splitlines()):
        _, mark, content = line.partition(MARK)
        if not mark:
            continue
        with suppress(ValueError, KeyError, AttributeError):  # a line that was cut
            found = json.loads(content)
            state: Literal["succeeded", "failed"] = "succeeded" if found["state"] == "succeeded" else "failed"
            return Ending(str(found["step"]), str(found.get("family", "")), state, str(found.get("cause", "")))
    return None


def cause_of(error: BaseException) -> str:
    """Return one line that says what an exception is about, without secrets.

    Our own errors are sentences and stand for themselves; others say little without their type.
    """
    own = isinstance(error, InputError) or type(error).__module__.startswith("caloforge.")
    return one_line(str(error) if own and str(error) else f"{type(error).__name__}: {error}".removesuffix(": "))


def one_line(text: str) -> str:
    """Return a text as one line of a bounded length, without secrets."""
    text = masked(" ".join(text.split()))
    return text if len(text) <= _CAUSE_CHARACTERS else text[: _CAUSE_CHARACTERS - 4] + " ..."
