"""All physics figures of all samples, as rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from caloforge.validation.figures.conditioning import conditioning
from caloforge.validation.figures.found import Found, figure_rows
from caloforge.validation.figures.physics import (
    Figures,
    ProfileShift,
    correlation_difference,
    figures,
    profile_shift,
    repeated_showers,
)
from caloforge.validation.metrics.result import Result
from caloforge.validation.observables.histogram import energy_edges
from caloforge.validation.observables.summary import Summary
from caloforge.validation.registries import FIGURES
from caloforge.validation.row import Row
from caloforge.validation.significance import LARGEST, either_way


def physics_rows(truth: Summary, second: Summary, summaries: Mapping[str, Summary], *, seed: int) -> Iterator[Row]:
    """Return the physics figures that the reference has, and the difference of correlations.

    Args:
        truth: the reference.
        second: more Geant4 showers.
        summaries: generator name to its sample.
        seed: of the bootstraps.
    """
    n, edges = len(truth), energy_edges(truth.incident_energy)
    reference, floor = (figures(summary, edges, seed=seed) for summary in (truth, second))
    others = {name: figures(summary, edges, seed=seed) for name, summary in summaries.items()}
    for key, figure in FIGURES.items():
        if not all(math.isfinite(x) for f in (reference, floor) for x in (f.value[key], f.error[key])):
            continue
        yield from figure_rows(
            key, figure.title, _figure(floor, reference, key),
            {name: _figure(other, reference, key) for name, other in others.items()},
            n=n, value=reference.value[key], error=reference.error[key], unit=figure.unit, tested=figure.tested,
        )  # fmt: skip
    yield from _from_floor(
        "layer_correlation", "Correlations between layers, r.m.s. difference",
        Result(0.0, 0.0, n=n), correlation_difference(second, truth),
        {name: correlation_difference(second, summary) for name, summary in summaries.items()},
    )  # fmt: skip
    yield from _from_floor(
        "repeated_showers", "Showers that repeat another",
        repeated_showers(truth), repeated_showers(second),
        {name: repeated_showers(summary) for name, summary in summaries.items()},
    )  # fmt: skip
    yield from conditioning(truth, second, summaries, edges, seed=seed)
    yield from figure_rows(
        "layer_profile", "Energies of the layers at given incident energy, r.m.s. difference in std. dev.",
        _shift(profile_shift(truth, second)),
        {name: _shift(profile_shift(truth, summary)) for name, summary in summaries.items()}, n=n,
    )  # fmt: skip


def _from_floor(name: str, title: str, reference: Result, floor: Result, others: Mapping[str, Result]) -> Iterator[Row]:
    """Return the rows of a figure whose distances are counted from the floor."""
    found = {key: Found(result.value, result.error, result.sigma_from(floor)) for key, result in others.items()}
    second = Found(floor.value, floor.error, 0.0)
    return figure_rows(name, title, second, found, n=reference.n, value=reference.value, error=reference.error)


def _shift(shift: ProfileShift) -> Found:
    return Found(shift.value, shift.error, shift.sigma, f", layer {shift.layer}")


def _figure(figures: Figures, reference: Figures, key: str) -> Found:
    """Return a figure and its distance from the reference's; one that is undefined is as far as can be."""
    value, error = figures.value[key], figures.error[key]
    if not (math.isfinite(value) and math.isfinite(error)):
        return Found(None, None, LARGEST)
    spread = math.hypot(error, reference.error[key])
    difference = value - reference.value[key]
    sigma = either_way(difference / spread) if spread > 0 else LARGEST * (difference != 0)
    ratio = ratio_error = None
    if (truth := reference.value[key]) > 0:
        ratio = value / truth
        ratio_error = math.hypot(error, ratio * reference.error[key]) / truth
    return Found(value, error, sigma, ratio=ratio, ratio_error=ratio_error)
