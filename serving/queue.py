"""Requests under way: one thread samples them batch by batch, short ones between the batches of long ones."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.memory import give_back_memory
from caloforge.models.bundle import Generator, condition_columns
from caloforge.models.interruption import interruptible
from caloforge.models.likelihood.log_prob import TOTAL, log_probs_of
from caloforge.serving.errors import BusyError
from caloforge.serving.limits import MAX_WAITING, Limits
from caloforge.serving.requests import Query
from caloforge.showers import Conditions

logger = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
"""So long without work, and freed memory goes back to the system."""

_MOST_RETRY_SECONDS = 60


@dataclass(frozen=True)
class Drawn:
    """What was ordered.

    Attributes:
        showers: (N, V) MeV.
        log_likelihood: (N,) log p of each, nats, if the score was asked for.
    """

    showers: NDArray[np.float32]
    log_likelihood: NDArray[np.float64] | None = None


class Order:
    """A request under way.

    Attributes:
        query: what is asked for.
        cost: bytes of memory that its answer takes, from the first batch until :meth:`release`.
        future: is done when the showers are there. Cancel it, and no more of them are drawn.
    """

    def __init__(self, query: Query, cost: int, number: int, queue: SamplingQueue) -> None:
        """Take what is asked for; ``number`` counts the orders."""
        self.query, self.cost, self.number = query, cost, number
        self.future: Future[None] = Future()
        self.left = len(query.conditions)
        self.seconds = 0.0
        self.batches: Iterator[tuple[int, NDArray[np.float32], float]] | None = None
        self.drawn: Drawn | None = None
        self._queue = queue

    def take(self) -> Drawn:
        """Return the showers once; the order forgets them, so that they go when the caller does."""
        drawn, self.drawn = self.drawn, None
        assert drawn is not None
        return drawn

    def release(self) -> None:
        """Say that the answer is sent, or not wanted: others may have its memory."""
        self.future.cancel()
        self._queue.release(self)

    def look(self) -> None:
        """Raise if nobody waits for the showers any more."""
        if self.future.done():
            raise _Unwanted


class _Unwanted(Exception):
    """Ends a sampling whose client is gone."""


class SamplingQueue:
    """Samples what is ordered, in a thread of its own.

    Batch by batch it takes, in turn, the order with the fewest showers left and the oldest one: a short request
    waits for about two batches, however long the others are, and a long one always goes on. Each order is
    sampled in the batches in which it would be sampled alone, so that its showers do not depend on the others.
    """

    def __init__(self, generator: Generator, limits: Limits) -> None:
        """Start the thread."""
        self._generator, self._limits = generator, limits
        self._changed = threading.Condition()
        self._orders: list[Order] = []
        self._holding: set[Order] = set()
        self._turn = self._count = 0
        self._drawn, self._seconds = 0, 0.0
        self._closed = self._ended = False
        self._idle = True
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether orders are still sampled."""
        return self._thread.is_alive()

    def put(self, query: Query) -> Order:
        """Order showers.

        Raises:
            BusyError: too many wait already, or the server is about to end.
        """
        with self._changed:
            if self._closed:
                raise BusyError("the server is stopping; ask again", retry_after=1)
            if len(self._orders) >= MAX_WAITING:
                seconds = sum(order.left for order in self._orders) * self._seconds / max(1, self._drawn)
                after = min(_MOST_RETRY_SECONDS, math.ceil(max(1.0, seconds)))
                raise BusyError(f"{MAX_WAITING} requests wait already; ask again in {after} s", retry_after=after)
            self._count += 1
            order = Order(query, self._limits.cost(query.form, len(query.conditions)), self._count, self)
            self._orders.append(order)
            self._changed.notify_all()
            return order

    def release(self, order: Order) -> None:
        """Forget an order; see :meth:`Order.release`."""
        with self._changed:
            self._holding.discard(order)
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more orders; those that are there are still sampled."""
        with self._changed:
            self._closed = True

    def end(self) -> None:
        """Give up what is not yet sampled: between two batches or steps, at once."""
        with self._changed:
            self._closed = self._ended = True
            for order in self._orders:
                _fail(order, BusyError("the server is stopping; ask again", retry_after=1))
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the thread after :meth:`end`, and return whether it ended."""
        self._thread.join(seconds)
        return not self.alive

    def _run(self) -> None:
        while (order := self._next()) is not None:
            self._advance(order)

    def _next(self) -> Order | None:
        """Wait for the order whose turn it is; None at the end."""
        while True:
            with self._changed:
                while not self._ended:
                    if order := self._choice():
                        self._idle = False
                        return order
                    if not self._changed.wait(None if self._idle else IDLE_SECONDS):
                        break
                else:
                    return None
            gc.collect()
            give_back_memory()
            self._idle = True

    def _choice(self) -> Order | None:
        self._orders = [order for order in self._orders if not order.future.done()]
        free = self._limits.room_bytes - sum(order.cost for order in self._holding)
        ready = [order for order in self._orders if order in self._holding or order.cost <= free]
        if not ready:
            return None
        self._turn += 1
        if self._turn % 2:
            return min(ready, key=lambda order: (order.left, order.number))
        return min(ready, key=lambda order: order.number)

    def _advance(self, order: Order) -> None:
        """Sample one batch of an order."""
        query = order.query
        try:
            with interruptible(order.look):
                order.look()
                if order.batches is None:
                    with self._changed:
                        self._holding.add(order)
                    order.drawn = Drawn(
                        np.empty((order.left, self._generator.geometry.n_voxels), np.float32),
                        np.empty(order.left) if query.score else None,
                    )
                    order.batches = self._generator.stream(
                        query.conditions, seed=query.seed, steps=query.steps, batch_size=self._batch(query.steps)
                    )
                start, showers, seconds = next(order.batches)
                rows = slice(start, start + len(showers))
                assert order.drawn is not None
                order.drawn.showers[rows] = showers
                if order.drawn.log_likelihood is not None:
                    began = time.perf_counter()
                    order.drawn.log_likelihood[rows] = self._log_likelihood(query.conditions.take(rows), showers)
                    seconds += time.perf_counter() - began
        except _Unwanted:
            self._drop(order)
            return
        except Exception as error:  # noqa: BLE001  it goes to whoever waits
            self._drop(order)
            _fail(order, error)
            return
        order.left -= len(showers)
        order.seconds += seconds
        with self._changed:
            self._drawn, self._seconds = self._drawn + len(showers), self._seconds + seconds
        if order.left == 0:
            order.batches = None
            logger.info("%d showers in %.4f s (seed %d)", len(query.conditions), order.seconds, query.seed)
            with suppress(InvalidStateError):
                order.future.set_result(None)
            if order.future.cancelled():
                self._drop(order)

    def _batch(self, steps: int | None) -> int | None:
        """Return how many showers are drawn at a time: so many that steps take no longer than one pass of others."""
        steps = steps or self._generator.default_steps
        network = self._generator.network
        return None if steps is None else max(1, network.sampling_batch(self._generator.device) // steps)

    def _log_likelihood(self, conditions: Conditions, showers: NDArray[np.float32]) -> NDArray[np.float64]:
        columns = condition_columns(conditions, self._generator.condition_names)
        return log_probs_of(self._generator.network, columns, showers)[TOTAL]

    def _drop(self, order: Order) -> None:
        order.drawn = order.batches = None
        self.release(order)


def _fail(order: Order, error: Any) -> None:
    with suppress(InvalidStateError):
        order.future.set_exception(error)
