"""The figures that a tuning may minimise: the feature metrics of the validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from threadpoolctl import threadpool_limits

from caloforge.errors import InputError, unknown_name
from caloforge.showers import Showers
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.summary import summarise
from caloforge.validation.registries import FEATURE_METRICS

FEWEST = 20
"""Fewer showers say nothing about a generator."""


class TrialFailed(RuntimeError):
    """A trial came to no figure of merit."""


def objective_names() -> tuple[str, ...]:
    """Return the names of the objectives; less is better for all of them."""
    return FEATURE_METRICS.names


def floor_name(name: str) -> str:
    """Return what the value of an objective between two samples of Geant4 is called."""
    return f"{name}_floor"


def check_objective(name: str) -> None:
    """Raise InputError for a name that is no objective."""
    if name not in FEATURE_METRICS:
        raise unknown_name("objective", name, FEATURE_METRICS)


def check_enough(reference: Showers) -> None:
    """Raise InputError for too few showers to judge by."""
    if len(reference) < FEWEST:
        raise InputError(f"{reference.path}: {len(reference)} showers to judge by; a trial needs {FEWEST} or more")


def measure(
    reference: Showers, generated: Showers, *, threshold: float, seed: int, names: Sequence[str] = ()
) -> dict[str, float]:
    """Return objectives of generated showers, one per reference shower.

    Args:
        reference: N Geant4 showers that the generator was not trained on.
        generated: N showers with the same conditions, row by row.
        threshold: MeV; smaller voxel energies count as 0.
        seed: of the metrics' random choices.
        names: of the objectives; all without it.

    Raises:
        InputError: there are too few showers.
        TrialFailed: a figure is not finite.
    """
    check_enough(reference)
    x, y = (high_level_features(summarise(showers, threshold=threshold)) for showers in (reference, generated))
    with threadpool_limits(1, "blas"):  # many small matrices: on two busy cores threads made the FPD 100 times slower
        figures = {name: FEATURE_METRICS.get(name).function(x, y, seed).value for name in names or FEATURE_METRICS}
    for name, value in figures.items():
        if not math.isfinite(value):
            raise TrialFailed(f"{name} of {generated.path} is {value}")
    return figures
