"""Plots of the key figures in bins of the incident energy and angles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.validation.observables.conditions import CONDITIONS, inside, ranges
from caloforge.validation.observables.histogram import bin_edges, fractions, number_of_bins
from caloforge.validation.observables.per_shower import response
from caloforge.validation.observables.summary import Summary
from caloforge.validation.plots.panels import Axis, Panel, Samples
from caloforge.validation.plots.style import REFERENCE
from caloforge.validation.registries import KEY_FIGURES
from caloforge.validation.row import Row

FloatArray = NDArray[np.float64]
Terms = Mapping[str, tuple[float, float, float]]


def key_figure(samples: Samples, name: str, condition: str, edges: FloatArray, terms: Terms | None = None) -> Figure:
    """Draw a key figure in bins of a condition.

    Args:
        samples: what is compared.
        name: name in :data:`KEY_FIGURES`.
        condition: name in :data:`CONDITIONS`.
        edges: (B + 1,) of the bins, in the package's units.
        terms: fitted a, b, c of a/sqrt(E) (+) b/E (+) c (E in GeV) by sample name, drawn dotted over
            the resolution against energy.
    """
    figure, where = KEY_FIGURES.get(name), CONDITIONS[condition]
    names = where.names(edges)
    label = f"{where.label} [{where.unit}]" if where.unit else where.label
    axis = Axis(label, figure.label, log_x=where.log, ratio=figure.ratio, filled=False, names=names)
    places = np.arange(len(edges), dtype=np.float64) - 0.5 if names else edges * where.scale
    lines = None
    if terms and (name, condition) == ("resolution", "energy"):
        energy = np.geomspace(edges[0], edges[-1], 100) * where.scale
        lines = {
            sample: (energy, np.sqrt(a**2 / energy + (b / energy) ** 2 + c**2)) for sample, (a, b, c) in terms.items()
        }
    return samples.draw(axis, samples.panel(places, lambda s: figure.curve(s, where, edges), lines=lines))


def response_in_ranges(samples: Samples, condition: str) -> Figure:
    """Draw the distribution of the response in up to three ranges of a condition beside each other."""
    axis = Axis(KEY_FIGURES.get("response").label.removeprefix("Mean "), "Fraction of showers")

    def panel(title: str, low: float, high: float) -> Panel:
        def values(summary: Summary) -> FloatArray:
            return response(summary)[inside(summary, condition, low, high)]

        truth = values(samples.reference)
        edges = bin_edges(truth, n_bins=number_of_bins(len(truth)))
        return samples.panel(edges, lambda s: fractions(values(s), edges), title=title)

    return samples.draw(axis, *(panel(*limits) for limits in ranges(samples.reference, condition)))


def fitted_terms(physics: Mapping[str, Mapping[str, Row]]) -> dict[str, tuple[float, float, float]]:
    """Return a, b and c of each sample that has them, from the rows of the physics figures."""
    found = [physics[name] for name in ("stochastic_term", "noise_term", "constant_term") if name in physics]
    if len(found) < 3:
        return {}
    values = {name: tuple(rows[name].value for rows in found) for name in found[0]}
    values[REFERENCE] = tuple(next(iter(rows.values())).reference for rows in found)
    return {name: (a, b, c) for name, (a, b, c) in values.items() if a is not None and b is not None and c is not None}
