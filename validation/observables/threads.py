"""Several small matrix products at once, each on one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from threadpoolctl import threadpool_info, threadpool_limits

Task = TypeVar("Task")
Answer = TypeVar("Answer")

MOST_THREADS = 8
"""More would hold too many blocks in memory at a time."""


def one_blas_thread() -> threadpool_limits:
    """Hold BLAS to one thread within a ``with``.

    On small matrices threads that wait for each other cost several times what they give.
    """
    return threadpool_limits(1, "blas")


def in_threads(function: Callable[[Task], Answer], tasks: Iterable[Task]) -> Iterator[Answer]:
    """Yield the answers to all tasks in their order, each worked out by one thread.

    As many run at once as BLAS was allowed threads (OMP_NUM_THREADS and its kind), and no more tasks
    are taken than are about to run. The function must spend its time in NumPy, which lets other
    threads run.
    """
    tasks = iter(tasks)
    allowed = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    n = min(max(allowed, default=1), MOST_THREADS)
    with one_blas_thread():
        if n == 1:
            yield from map(function, tasks)
            return
        with ThreadPoolExecutor(n) as pool:
            waiting = [pool.submit(function, task) for task in islice(tasks, 2 * n)]
            while waiting:
                first = waiting.pop(0)
                yield first.result()
                waiting += [pool.submit(function, task) for task in islice(tasks, 1)]
