"""Requests under way, with a generator whose batches wait until the test lets them through."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry

from caloforge.errors import InputError
from caloforge.models.bundle import load_bundle
from caloforge.models.engines.variant import PLAIN
from caloforge.models.interruption import numbered_steps
from caloforge.serving import queue as queue_module
from caloforge.serving.errors import BusyError
from caloforge.serving.limits import MOST_TOGETHER, Limits
from caloforge.serving.metrics import ServingMetrics
from caloforge.serving.queue import Order, SamplingQueue
from caloforge.serving.requests import Query
from caloforge.showers import Conditions

BATCH = 2
FAR = 1e6
SECONDS = 20


class Stepwise:
    """Draws two showers at a time of long requests; writes down for whom, and waits before each step."""

    def __init__(self) -> None:
        self.family, self.geometry = "stepwise", SimpleNamespace(name="three", n_voxels=3)
        self.default_steps: int | None = None
        self.variant, self.device = PLAIN, torch.device("cpu")
        self.network = SimpleNamespace(sampling_batch=lambda _: 100)
        self.begun: list[int | tuple[int, ...]] = []
        self.gate = threading.Semaphore(0)
        self.waiting = threading.Event()

    def check(self, conditions: Conditions) -> None:
        if (conditions.incident_energy > FAR).any():
            raise InputError("too far")

    def stream(self, conditions: Conditions, *, seed: int, steps: int | None, batch_size: int | None) -> Iterator[Any]:
        for start in range(0, len(conditions), BATCH):
            self.begun.append(seed)
            self.step(steps)
            n = min(BATCH, len(conditions) - start)
            yield start, np.full((n, 3), seed, np.float32), 0.001

    def sample_together(self, queries: Sequence[tuple[Conditions, int]], *, steps: int | None) -> list[np.ndarray]:
        for conditions, _ in queries:
            self.check(conditions)
        seeds = tuple(seed for _, seed in queries)
        self.begun.append(seeds if len(seeds) > 1 else seeds[0])
        self.step(steps)
        return [np.full((len(conditions), 3), seed, np.float32) for conditions, seed in queries]

    def step(self, steps: int | None) -> None:
        for _ in numbered_steps(steps or 1):
            self.waiting.set()
            assert self.gate.acquire(timeout=SECONDS)


def limits(room: int = 10**9) -> Limits:
    return Limits(n_voxels=3, answer_bytes=room, room_bytes=room, default_steps=1, max_steps=1000)


@pytest.fixture
def generator() -> Stepwise:
    return Stepwise()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def make(
    generator: Stepwise, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SamplingQueue]]:
    made: list[SamplingQueue] = []

    def queue(room: int = 10**9, together: int = BATCH) -> SamplingQueue:
        monkeypatch.setattr(queue_module, "MOST_TOGETHER", together)
        metrics = ServingMetrics(generator, registry)  # type: ignore[arg-type]
        made.append(SamplingQueue(generator, limits(room), metrics))  # type: ignore[arg-type]
        return made[-1]

    yield queue
    for one in made:
        one.end()
        for _ in range(100):
            generator.gate.release()
        assert one.join(SECONDS)


def query(seed: int, n: int = 1, steps: int | None = None, *, energy: float = 1.0, score: bool = False) -> Query:
    return Query(Conditions(np.full(n, energy)), seed, steps, False, score, "binary", "")


def busy(generator: Stepwise, queue: SamplingQueue, *, seed: int = 0) -> Order:
    """Have a request under way, so that those that come now wait together."""
    order = queue.put(query(seed))
    assert generator.waiting.wait(SECONDS)
    return order


def let_through(generator: Stepwise, n: int) -> None:
    for _ in range(n):
        generator.gate.release()


def showers(order: Order) -> np.ndarray:
    order.future.result(SECONDS)
    return order.take().showers


def test_a_short_request_does_not_wait_for_long_ones(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    long = [queue.put(query(seed, 20)) for seed in (1, 2, 3)]
    assert generator.waiting.wait(SECONDS)
    short = queue.put(query(9))
    let_through(generator, 3)
    assert short.future.result(SECONDS) is None
    assert not any(order.future.done() for order in long)
    assert generator.begun.index(9) <= 2


def test_short_requests_do_not_keep_a_long_one_waiting(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    long = queue.put(query(1, 20))
    assert generator.waiting.wait(SECONDS)
    for seed in range(2, 40):
        queue.put(query(seed))
    let_through(generator, 21)  # ten batches of the long one, and no more than one short one for each
    assert long.future.result(SECONDS) is None


def test_each_gets_its_own_showers(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    orders = {seed: queue.put(query(seed, 5)) for seed in (1, 2, 3)}
    let_through(generator, 9)
    for seed, order in orders.items():
        np.testing.assert_array_equal(showers(order), np.full((5, 3), seed))


def test_what_nobody_waits_for_is_not_sampled(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    first = queue.put(query(1, 20))
    assert generator.waiting.wait(SECONDS)
    abandoned, last = queue.put(query(2)), queue.put(query(3))
    abandoned.release()
    first.release()  # under way: it ends after its batch
    let_through(generator, 2)
    assert last.future.result(SECONDS) is None
    assert generator.begun == [1, 3]


def test_a_sampling_ends_between_two_steps(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    endless = queue.put(query(1, 2, steps=1000))
    assert generator.waiting.wait(SECONDS)
    other = queue.put(query(2))
    endless.release()
    let_through(generator, 2)
    assert other.future.result(SECONDS) is None


def test_end_ends_between_two_steps(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    order = queue.put(query(1, 2, steps=1000))
    assert generator.waiting.wait(SECONDS)
    queue.end()
    let_through(generator, 1)
    assert queue.join(SECONDS)
    with pytest.raises(BusyError, match="the server is stopping"):
        order.future.result(SECONDS)


def test_close_finishes_what_is_there(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()
    order = queue.put(query(1, 4))
    queue.close()
    with pytest.raises(BusyError, match="the server is stopping; ask again") as caught:
        queue.put(query(2))
    assert caught.value.retry_after == 1
    let_through(generator, 2)
    assert order.future.result(SECONDS) is None


def test_the_queue_is_bounded(
    generator: Stepwise, make: Callable[..., SamplingQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MAX_WAITING", 3)
    queue = make()
    orders = [queue.put(query(seed)) for seed in range(3)]
    with pytest.raises(BusyError, match="3 requests wait already; ask again in 1 s") as caught:
        queue.put(query(9))
    assert caught.value.retry_after == 1
    let_through(generator, 3)
    for order in orders:
        order.future.result(SECONDS)
    queue.put(query(10))


def test_answers_wait_for_memory_and_not_for_ever(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make(room=3 * 4 * 4)  # four showers
    large = queue.put(query(1, 4))
    assert generator.waiting.wait(SECONDS)
    next_one = queue.put(query(2, 3))
    let_through(generator, 5)
    assert large.future.result(SECONDS) is None
    small_one = queue.put(query(3, 2))
    for order in (next_one, small_one):
        with pytest.raises(TimeoutError):
            order.future.result(0.1)  # the first answer is not yet sent
    assert generator.begun == [1, 1]
    large.release()
    for order in (small_one, next_one):  # beside each other they have no room
        assert order.future.result(SECONDS) is None
        order.release()


@pytest.mark.parametrize(
    ("default", "asked", "batch"), [(None, None, None), (1, None, 100), (12, None, 8), (12, 48, 2), (12, 1000, 1)]
)
def test_many_steps_are_taken_with_few_showers(
    default: int | None, asked: int | None, batch: int | None, generator: Stepwise, make: Callable[..., SamplingQueue],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A short request waits for two batches; with 48 steps for 100 showers each that was a minute and more."""
    given = []

    def noted(conditions: Conditions, *, batch_size: int | None, **_: Any) -> Iterator[Any]:
        given.append(batch_size)
        yield 0, np.zeros((len(conditions), 3), np.float32), 0.0

    generator.default_steps = default
    monkeypatch.setattr(generator, "stream", noted)
    make().put(query(1, 3, steps=asked)).future.result(SECONDS)
    assert given == [batch]


def test_a_failure_reaches_who_waits_and_nobody_else(
    generator: Stepwise, make: Callable[..., SamplingQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(conditions: Conditions, *, seed: int, **options: Any) -> Iterator[Any]:
        if seed == 1:
            raise MemoryError
        yield 0, np.zeros((len(conditions), 3), np.float32), 0.0

    monkeypatch.setattr(generator, "stream", failing)
    queue = make()
    bad, good = queue.put(query(1, 4)), queue.put(query(2, 4))
    with pytest.raises(MemoryError):
        bad.future.result(SECONDS)
    assert good.future.result(SECONDS) is None
    assert queue.alive


def test_short_requests_that_wait_are_drawn_together(
    generator: Stepwise, make: Callable[..., SamplingQueue], registry: CollectorRegistry
) -> None:
    """As many as fit, the oldest first; nobody waits for others to come."""
    queue = make(together=4)
    first = busy(generator, queue)
    orders = {seed: queue.put(query(seed, n)) for seed, n in ((1, 2), (2, 1), (3, 2), (4, 1), (5, 5))}
    let_through(generator, 6)
    for seed, order in orders.items():
        np.testing.assert_array_equal(showers(order), np.full((len(order.query.conditions), 3), seed))
    assert showers(first).shape == (1, 3)
    assert generator.begun == [0, (1, 2, 4), 3, 5, 5, 5]
    assert registry.get_sample_value("caloforge_batch_requests_sum") == 1 + 3 + 1 + 3
    assert registry.get_sample_value("caloforge_batch_showers_sum") == 1 + 4 + 2 + 5
    for stage in ("wait", "sampling"):
        assert registry.get_sample_value("caloforge_stage_seconds_count", {"stage": stage}) == 6


def test_a_batch_of_short_requests_is_bounded_in_voxels_and_steps(
    generator: Stepwise, make: Callable[..., SamplingQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "VOXELS_TOGETHER", 3 * 2)
    queue = make(together=100)
    busy(generator, queue)
    orders = [queue.put(query(seed, steps=steps)) for seed, steps in ((1, 1), (2, 1), (3, 1), (4, 60), (5, 60))]
    let_through(generator, 1 + 2 + 2 * 60)
    for order in orders:
        order.future.result(SECONDS)
    assert generator.begun == [0, (1, 2), 3, 4, 5]  # of 60 steps not even two showers fit


def test_only_what_is_asked_for_in_the_same_way_is_drawn_together(
    generator: Stepwise, make: Callable[..., SamplingQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SamplingQueue, "_log_likelihood", lambda *_: np.zeros(1))
    generator.default_steps = 1
    queue = make(together=9)
    busy(generator, queue)
    asked = [query(1), query(2, steps=3), query(3, steps=1), query(4, score=True), query(5, steps=3), query(6)]
    orders = [queue.put(one) for one in asked]
    let_through(generator, 20)
    for order in orders:
        order.future.result(SECONDS)
    assert generator.begun == [0, (1, 3, 6), (2, 5), 4]


def test_a_wrong_request_is_refused_and_leaves_the_others_together(
    generator: Stepwise, make: Callable[..., SamplingQueue]
) -> None:
    queue = make(together=9)
    busy(generator, queue)
    first, wrong, last = queue.put(query(1)), queue.put(query(2, energy=2 * FAR)), queue.put(query(3))
    let_through(generator, 2)
    with pytest.raises(InputError, match="too far"):
        wrong.future.result(SECONDS)
    assert [showers(order)[0, 0] for order in (first, last)] == [1, 3]
    assert generator.begun == [0, (1, 3)]


def test_a_batch_that_fails_is_drawn_request_by_request(
    generator: Stepwise, make: Callable[..., SamplingQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = generator.sample_together

    def failing(queries: Sequence[tuple[Conditions, int]], **options: Any) -> list[np.ndarray]:
        if 2 in (seed for _, seed in queries):
            raise MemoryError
        return whole(queries, **options)

    monkeypatch.setattr(generator, "sample_together", failing)
    queue = make(together=9)
    busy(generator, queue)
    first, bad, last = (queue.put(query(seed)) for seed in (1, 2, 3))
    let_through(generator, 3)
    with pytest.raises(MemoryError):
        bad.future.result(SECONDS)
    assert [showers(order)[0, 0] for order in (first, last)] == [1, 3]
    assert generator.begun == [0, 1, 3]
    assert queue.alive


def test_who_hangs_up_stops_nobody_else(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make(together=2)
    busy(generator, queue)
    generator.waiting.clear()
    orders = [queue.put(query(seed, steps=3)) for seed in (1, 2, 3, 4)]
    let_through(generator, 1)
    assert generator.waiting.wait(SECONDS)
    orders[0].release()
    let_through(generator, 3)
    assert showers(orders[1])[0, 0] == 2
    orders[2].release()
    orders[3].release()  # now nobody waits for that batch
    let_through(generator, 1)
    last = queue.put(query(5))
    let_through(generator, 1)
    assert showers(last)[0, 0] == 5
    assert generator.begun == [0, (1, 2), (3, 4), 5]


def test_a_batch_of_short_requests_takes_no_more_memory_than_there_is(
    generator: Stepwise, make: Callable[..., SamplingQueue]
) -> None:
    queue = make(room=3 * 4 * 3, together=9)  # three showers
    first = busy(generator, queue)
    orders = [queue.put(query(seed)) for seed in (1, 2, 3)]
    let_through(generator, 3)
    for order in orders[:2]:
        order.future.result(SECONDS)
    assert generator.begun == [0, (1, 2)]
    first.release()
    orders[2].future.result(SECONDS)


def test_freed_memory_goes_back_when_there_is_no_work(
    generator: Stepwise, make: Callable[..., SamplingQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    gave = threading.Event()
    monkeypatch.setattr(queue_module, "give_back_memory", gave.set)
    monkeypatch.setattr(queue_module, "IDLE_SECONDS", 0.05)
    queue = make()
    assert not gave.wait(0.2)  # nothing was done yet
    let_through(generator, 1)
    queue.put(query(1)).future.result(SECONDS)
    assert gave.wait(SECONDS)


def test_a_cancelled_wait_cancels_the_order(generator: Stepwise, make: Callable[..., SamplingQueue]) -> None:
    queue = make()

    async def hang_up() -> Order:
        order = queue.put(query(1, 20))
        task = asyncio.ensure_future(asyncio.wrap_future(order.future))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return order

    assert asyncio.run(hang_up()).future.cancelled()


def test_showers_of_requests_that_are_drawn_together_are_those_of_each_alone_to_the_bit(tiny_tree: Path) -> None:
    generator = load_bundle(tiny_tree)
    n_voxels, registry = generator.geometry.n_voxels, CollectorRegistry()
    room = Limits(n_voxels=n_voxels, answer_bytes=10**8, room_bytes=10**8, default_steps=None, max_steps=0)
    queue = SamplingQueue(generator, room, ServingMetrics(generator, registry))
    asked = [Query(Conditions(np.full(n, 2e4)), seed, None, False, False, "binary", "") for seed, n in ((1, 1), (2, 3))]
    try:
        alone = [showers(queue.put(one)) for one in asked]
        held = queue.put(Query(Conditions(np.full(MOST_TOGETHER + 1, 2e4)), 0, None, False, False, "binary", ""))
        orders = [queue.put(one) for one in asked]
        for one, order in zip(alone, orders, strict=True):
            assert np.array_equal(showers(order), one)
        held.future.result(SECONDS)
    finally:
        queue.end()
        assert queue.join(SECONDS)
    assert registry.get_sample_value("caloforge_batch_requests_bucket", {"le": "1.0"}) == 3
    assert registry.get_sample_value("caloforge_batch_requests_sum") == 3 + 2
