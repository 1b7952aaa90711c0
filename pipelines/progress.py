"""What is known of a step: where it comes from differs, what it means does not."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

State = Literal[
    "waiting", "pending", "running", "succeeded", "cached", "failed", "terminated", "not run", "unknown"
]  # fmt: skip
"""``waiting`` for other steps, ``pending`` until its container runs, ``cached`` from an earlier run,
``failed`` also where its family failed and the run goes on, ``unknown`` where nobody tells any more."""

ENDED: tuple[State, ...] = ("succeeded", "cached", "failed", "terminated", "not run", "unknown")


@dataclass(frozen=True)
class Progress:
    """State of a step.

    Attributes:
        state: see :data:`State`.
        start: when its first attempt started.
        end: when its last attempt ended.
        attempt: number of the attempt, from 1.
        node: Argo's identifier of the node whose log tells of it; empty if there is none.
        cause: why it failed or is pending, in one line; empty if nobody says.
    """

    state: State
    start: datetime | None = None
    end: datetime | None = None
    attempt: int = 1
    node: str = ""
    cause: str = ""

    @property
    def seconds(self) -> float | None:
        """How long it took or has been at it; None if that is not known."""
        if self.start is None or (self.end is None and self.state in ENDED):
            return None
        return max(0.0, ((self.end or datetime.now(UTC)) - self.start).total_seconds())


def moment(value: datetime | str | None) -> datetime | None:
    """Return a time; None for none and for the year 1 and 1970, by which Kubeflow means the same."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value if value is not None and value.year > 1970 else None


def clock(seconds: float) -> str:
    """Return a duration as people read it: ``1:43``, ``2:05:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
