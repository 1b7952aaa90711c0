"""Ways to run a generator side by side: one that fails is left out with its reason, and the others go on."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from caloforge.models.engines.variant import EngineUnavailable
from caloforge.progress import Progress
from caloforge.tuning.inference.record import Timing

logger = logging.getLogger(__name__)

ROUNDS = 3

_LONGEST = 20.0
"""Seconds; larger requests are not timed for whoever would take longer."""


class Timed(Protocol):
    """What draws showers and says how long that takes."""

    def seconds(self, n: int) -> float:
        """Return how long n showers take.

        Raises:
            EngineUnavailable: it cannot draw any more.
        """

    def cpu_seconds(self) -> float:
        """Return the CPU time that its process has used so far.

        Raises:
            EngineUnavailable: it is gone.
        """


T = TypeVar("T", bound=Timed)


class Contest(Generic[T]):
    """Those that are measured, by name.

    Attributes:
        alive: those that still run.
        left_out: why the others do not.
    """

    def __init__(self, *, needed: str = "") -> None:
        """Begin with nobody; whatever happens to the ``needed`` one ends all."""
        self.alive: dict[str, T] = {}
        self.left_out: dict[str, str] = {}
        self._needed = needed

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Do something with one of them, which is left out if it cannot.

        Raises:
            EngineUnavailable: it is the one that is needed.
        """
        try:
            yield
        except EngineUnavailable as error:
            if name == self._needed:
                raise
            self.leave_out(name, error)

    def leave_out(self, name: str, error: EngineUnavailable) -> None:
        """Go on without one of them."""
        self.alive.pop(name, None)
        self.left_out[name] = str(error).removeprefix(f"{name}: ")
        logger.info("left out: %s: %s", name, self.left_out[name])

    def time(self, sizes: Sequence[int]) -> dict[str, dict[int, Timing]]:
        """Time all, turn by turn, so that a busy moment of the machine hits all alike.

        Returns:
            of those that came through it, milliseconds per shower by the number of showers asked for at once.
        """
        seconds: dict[str, dict[int, list[float]]] = {name: {} for name in self.alive}
        cpu: dict[str, dict[int, list[float]]] = {name: {} for name in self.alive}
        progress = Progress("timing", len(sizes) * ROUNDS * len(seconds), unit="round")
        done = 0
        for size in sorted(sizes):
            slow = {name for name, taken in seconds.items() if _expected(taken, size) > _LONGEST}
            for _ in range(ROUNDS):
                for name, taken in seconds.items():
                    if name in self.alive and name not in slow:
                        with self.attempt(name):
                            before = self.alive[name].cpu_seconds()
                            took = self.alive[name].seconds(size)
                            used = self.alive[name].cpu_seconds() - before
                            taken.setdefault(size, []).append(took)
                            cpu[name].setdefault(size, []).append(used)
                    progress.update(done := done + 1)
        return {
            name: {size: _per_shower(one, cpu[name][size], size) for size, one in taken.items()}
            for name, taken in seconds.items()
            if name in self.alive
        }


def _per_shower(seconds: Sequence[float], cpu: Sequence[float], size: int) -> Timing:
    each = [1e3 * one / size for one in seconds]
    return Timing(
        median=statistics.median(each), least=min(each), most=max(each), cpu=1e3 * statistics.median(cpu) / size
    )


def _expected(taken: dict[int, list[float]], size: int) -> float:
    """Return how long so many showers may take, by the largest number that was timed."""
    return min(taken[max(taken)]) * size / max(taken) if taken else 0.0
