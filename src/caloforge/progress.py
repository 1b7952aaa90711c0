"""Progress lines with an ETA that read well in a terminal and in a pod's log alike."""

from __future__ import annotations

import logging
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)


class Progress:
    """Log ``name: 40%|####      | 400/1000 [00:20<00:30, 20.0step/s]`` every few seconds."""

    def __init__(self, name: str, total: int, *, unit: str, initial: int = 0, every: float = 10.0) -> None:
        """Start the clock.

        Args:
            name: what is going on.
            total: units of work in all.
            unit: name of the unit.
            initial: units that were done before, by a run that was stopped.
            every: seconds between two lines.
        """
        self._name, self._total, self._unit, self._initial, self._every = name, total, unit, initial, every
        self._start = self._last = time.monotonic()

    def update(self, done: int, note: str = "", *, total: int | None = None) -> None:
        """Say how many units are done; logs if the last line is long enough ago.

        Args:
            done: units done.
            note: put at the end of the line.
            total: units of work in all, where that has changed.
        """
        self._total = self._total if total is None else total
        now = time.monotonic()
        if now - self._last < self._every and done < self._total:
            return
        self._last = now
        meter = tqdm.format_meter(
            done, self._total, now - self._start, unit=self._unit, initial=self._initial, ncols=80, ascii=True
        )
        if note:
            meter += f" {note}"
        logger.info("%s: %s", self._name, meter)
