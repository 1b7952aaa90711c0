"""Requests under way: one thread samples them batch by batch, short ones together between the batches of long ones."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.memory import give_back_memory
from caloforge.models.bundle import Generator, condition_columns
from caloforge.models.interruption import interruptible
from caloforge.models.likelihood.log_prob import TOTAL, log_probs_of
from caloforge.serving.errors import BusyError
from caloforge.serving.limits import MAX_WAITING, MOST_TOGETHER, VOXELS_TOGETHER, Limits
from caloforge.serving.metrics import ServingMetrics
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
        since: when it was put into the queue.
        apart: whether it is not to be drawn with others: something in their batch failed.
        future: is done when the showers are there. Cancel it, and no more of them are drawn.
    """

    def __init__(self, query: Query, cost: int, number: int, queue: SamplingQueue) -> None:
        """Take what is asked for; ``number`` counts the orders."""
        self.query, self.cost, self.number = query, cost, number
        self.future: Future[None] = Future()
        self.left = len(query.conditions)
        self.since = time.perf_counter()
        self.seconds = 0.0
        self.apart = False
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
    waits for about two batches, however long the others are, and a long one always goes on. Short ones that wait
    already and ask for the same steps are sampled in one batch; nothing waits for others to come. A long one is
    sampled in the batches in which it would be sampled alone. So no order's showers depend on the others (see
    :meth:`caloforge.models.bundle.Generator.sample_together`).
    """

    def __init__(self, generator: Generator, limits: Limits, metrics: ServingMetrics) -> None:
        """Start the thread."""
        self._generator, self._limits, self._metrics = generator, limits, metrics
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
        while (orders := self._next()) is not None:
            if self._is_short(orders[0]):
                self._draw(orders)
            else:
                self._advance(orders[0])

    def _next(self) -> list[Order] | None:
        """Wait for the order whose turn it is, and return it with those that are sampled with it; None at the end."""
        while True:
            with self._changed:
                while not self._ended:
                    if orders := self._choice():
                        self._idle = False
                        for order in orders:
                            if order not in self._holding:
                                self._holding.add(order)
                                self._metrics.spent("wait", time.perf_counter() - order.since)
                        return orders
                    if not self._changed.wait(None if self._idle else IDLE_SECONDS):
                        break
                else:
                    return None
            gc.collect()
            give_back_memory()
            self._idle = True

    def _choice(self) -> list[Order]:
        self._orders = [order for order in self._orders if not order.future.done()]
        free = self._limits.room_bytes - sum(order.cost for order in self._holding)
        ready = [order for order in self._orders if order in self._holding or order.cost <= free]
        if not ready:
            return []
        self._turn += 1
        if self._turn % 2:
            first = min(ready, key=lambda order: (order.left, order.number))
        else:
            first = min(ready, key=lambda order: order.number)
        return [first, *self._beside(first, ready, free)]

    def _beside(self, first: Order, ready: Sequence[Order], free: int) -> Iterator[Order]:
        """Yield what is sampled in one batch with an order, the oldest first."""
        if not self._is_short(first) or first.apart or first.query.score:
            return
        steps = self._steps(first)
        showers = self._most_together(steps) - first.left
        free -= 0 if first in self._holding else first.cost
        for order in ready:
            like = self._is_short(order) and not order.apart and not order.query.score and self._steps(order) == steps
            cost = 0 if order in self._holding else order.cost
            if order is not first and like and order.left <= showers and cost <= free:
                showers, free = showers - order.left, free - cost
                yield order

    def _is_short(self, order: Order) -> bool:
        return len(order.query.conditions) <= self._most_together(self._steps(order))

    def _steps(self, order: Order) -> int | None:
        return order.query.steps or self._generator.default_steps

    def _most_together(self, steps: int | None) -> int:
        """Return how many showers are drawn at a time for short requests."""
        most = min(MOST_TOGETHER, VOXELS_TOGETHER // self._generator.geometry.n_voxels)
        return max(1, min(most, self._batch(steps) or most))

    def _draw(self, orders: list[Order]) -> None:
        """Sample short orders in one batch."""

        def look() -> None:
            if all(order.future.done() for order in orders):
                raise _Unwanted

        began = time.perf_counter()
        asked = [(order.query.conditions, order.query.seed) for order in orders]
        try:
            with interruptible(look):
                look()
                together = self._generator.sample_together(asked, steps=orders[0].query.steps)
                together = [showers.copy() for showers in together] if len(orders) > 1 else together
                scores = [
                    self._log_likelihood(conditions, showers) if order.query.score else None
                    for order, (conditions, _), showers in zip(orders, asked, together, strict=True)
                ]
        except _Unwanted:
            for order in orders:
                self._drop(order)
            return
        except Exception as error:  # noqa: BLE001  it goes to whoever waits
            self._part(orders, error)
            return
        seconds = time.perf_counter() - began
        self._note(sum(order.left for order in orders), seconds, requests=len(orders))
        for order, showers, score in zip(orders, together, scores, strict=True):
            order.drawn, order.left, order.seconds = Drawn(showers, score), 0, seconds
            self._finish(order)

    def _part(self, orders: list[Order], error: Exception) -> None:
        """Fail the orders that an error is of; where that cannot be told, each is sampled by itself when its turn comes."""
        faults = {orders[0]: error} if len(orders) == 1 else {}
        if isinstance(error, InputError) and not faults:
            for order in orders:
                try:
                    self._generator.check(order.query.conditions)
                except InputError as own:
                    faults[order] = own
        for order, fault in faults.items():
            self._drop(order)
            _fail(order, fault)
        if not faults:
            for order in orders:
                order.apart = True

    def _advance(self, order: Order) -> None:
        """Sample one batch of a long order."""
        query = order.query
        try:
            with interruptible(order.look):
                order.look()
                if order.batches is None:
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
        self._note(len(showers), seconds, requests=1)
        if order.left == 0:
            order.batches = None
            self._finish(order)

    def _note(self, showers: int, seconds: float, *, requests: int) -> None:
        with self._changed:
            self._drawn, self._seconds = self._drawn + showers, self._seconds + seconds
        self._metrics.drew(showers=showers, requests=requests)

    def _finish(self, order: Order) -> None:
        """Hand over an order's showers."""
        query = order.query
        self._metrics.spent("sampling", order.seconds)
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
