"""How long a service that does not answer is asked again: the one policy of all that talk to a cluster or a store."""

from __future__ import annotations

import logging
import random
import time

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 300.0
"""A service that does not answer for so long is given up."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 10.0
"""Between two attempts: each pause is twice the one before."""

JITTER = 0.25
"""So much of a pause is drawn at random: many pods that lost the same service do not come back at the same moment."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses of a server that is busy, broken or away; the same request may be answered later."""


class Patience:
    """How long something has been away, and how much longer that is borne."""

    def __init__(self, seconds: float, *, first: float | None = None) -> None:
        """Begin to count.

        Args:
            seconds: that are borne.
            first: pause after the first attempt, if it is to be another.
        """
        self._seconds = seconds
        self._first = FIRST_PAUSE_SECONDS if first is None else min(first, FIRST_PAUSE_SECONDS)
        self.renew()

    def renew(self) -> None:
        """Begin anew: there was an answer."""
        self._since, self._pause = time.monotonic(), self._first

    @property
    def away(self) -> float:
        """Seconds since the last answer."""
        return time.monotonic() - self._since

    def wait(self, what: str) -> bool:
        """Say what is wrong and wait before another attempt.

        Returns:
            Whether there is to be one; without it patience is at its end, and nothing was said or waited for.
        """
        left = self._seconds - self.away
        if left <= 0:
            return False
        pause = min(self._pause * random.uniform(1 - JITTER, 1 + JITTER), left)
        logger.warning("%s; trying again in %.2g s", what, pause)
        time.sleep(pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True
