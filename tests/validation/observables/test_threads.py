import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from caloforge.validation.metrics.frechet import fpd
from caloforge.validation.metrics.kernel import kpd
from caloforge.validation.observables.threads import in_threads, one_blas_thread


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_answers_come_in_order_from_as_many_threads_as_blas_may_use():
    barrier, taken = threading.Barrier(2, timeout=20), []

    def tasks():
        for i in range(20):
            taken.append(i)
            yield i

    def meet(i):
        barrier.wait()  # needs two at a time
        return i * i, blas_threads()

    with threadpool_limits(2, "blas"):
        answers = in_threads(meet, tasks())
        assert next(answers) == (0, {1})
        assert len(taken) <= 5
        assert [value for value, _ in answers] == [i * i for i in range(1, 20)]
        assert blas_threads() == {2}


def test_one_thread_does_it_alone_and_errors_come_through():
    with one_blas_thread():
        here = threading.get_ident()
        assert set(in_threads(lambda _: threading.get_ident(), range(5))) == {here}
    with threadpool_limits(2, "blas"), pytest.raises(ZeroDivisionError):
        list(in_threads(lambda x: 1 / x, range(3)))


def test_the_number_of_threads_changes_no_figure():
    x, y = np.random.default_rng(0).normal(size=(2, 2000, 4))
    found = []
    for n in (1, 2):
        with threadpool_limits(n, "blas"):
            found.append((fpd(x, y), kpd(x, y, batch_size=1500)))
    assert found[0] == found[1]
