"""Use one metric on arrays: its value with error, floor and number of showers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.errors import InputError, unknown_name
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.separation import separation_power
from caloforge.validation.metrics.wasserstein import wasserstein
from caloforge.validation.registries import FEATURE_METRICS

FloatArray = NDArray[np.float64]
Metric = Callable[[FloatArray, FloatArray, int], Result]

COLUMN_METRICS: dict[str, Metric] = {
    "separation": lambda x, y, _: separation_power(x, y),
    "separation_log": lambda x, y, _: separation_power(x, y, log=True),
    "wasserstein": lambda x, y, _: wasserstein(x, y),
}
"""By name: metrics of each column, whose mean is the value."""

FEWEST = 50


def measure(
    metric: str, reference: ArrayLike, generated: ArrayLike, *, floor: ArrayLike | None = None, seed: int = 0
) -> Result:
    """Compare two samples by one metric, beside the value that two samples of Geant4 have.

    All comparisons are made with the same number of rows, as metrics depend on it: of the generated rows
    with the second sample, and for the floor of the reference with it, so that generated showers may
    have the incident energies of the reference (see :func:`caloforge.validation.validate.validate`).

    Args:
        metric: name of a metric of all columns together (:data:`FEATURE_METRICS`) or in :data:`COLUMN_METRICS`.
        reference: (N,) or (N, columns) values of Geant4: features, or an observable of each shower.
        generated: the same of a generator.
        floor: the same of more Geant4 showers; without it the reference is halved at random.
        seed: of the random choices.

    Returns:
        The metric with ``value``, ``error``, ``n``, ``floor``, ``floor_error`` and ``sigma``.

    Raises:
        InputError: there is no such metric; the samples have unlike columns, fewer than 50 rows, or
            values that are no finite numbers.
    """
    metrics = {name: one.function for name, one in FEATURE_METRICS.items()} | COLUMN_METRICS
    if metric not in metrics:
        raise unknown_name("metric", metric, metrics)
    rng = np.random.default_rng(seed)
    x = _table("reference", reference)
    samples = {"generated": _table("generated", generated)}
    if floor is None:
        order = rng.permutation(len(x))
        x, samples["floor"] = x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
    else:
        samples["floor"] = _table("floor", floor)
    n = min(len(x), *(len(sample) for sample in samples.values()))
    if n < FEWEST:
        raise InputError(f"{metric}: {n} rows to compare; {FEWEST} or more of each sample are needed")
    for name, sample in samples.items():
        if sample.shape[1] != x.shape[1]:
            raise InputError(f"{metric}: {name} has {sample.shape[1]} columns but the reference has {x.shape[1]}")
    x, y, z = (_some(sample, n, rng) for sample in (x, samples["generated"], samples["floor"]))
    function = metrics[metric]
    return function(z, y, seed).beside(function(z, x, seed))


def _table(name: str, values: ArrayLike) -> FloatArray:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2):
        raise InputError(f"{name}: expected (N,) or (N, columns), got the shape {table.shape}")
    if not np.isfinite(table).all():
        raise InputError(f"{name}: {int((~np.isfinite(table)).sum())} values are no finite numbers")
    return table.reshape(len(table), -1)


def _some(sample: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    return sample if len(sample) == n else sample[np.sort(rng.permutation(len(sample))[:n])]
