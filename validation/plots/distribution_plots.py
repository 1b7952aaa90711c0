"""Plots of the observables' distributions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.validation.observables.histogram import bin_edges, fractions, number_of_bins
from caloforge.validation.observables.observable import Observable
from caloforge.validation.plots.panels import Axis, Panel, Samples


def distribution(samples: Samples, observable: Observable) -> Figure:
    """Draw the distribution of an observable; the outermost bins hold what lies beyond them."""
    values = observable.plotted(samples.reference)
    edges = bin_edges(values, log=observable.log, n_bins=number_of_bins(len(values)))
    unit = f" [{observable.unit}]" if observable.unit else ""
    axis = Axis(f"{observable.label or observable.title}{unit}", "Fraction of showers", log_x=observable.log)
    return samples.draw(axis, samples.panel(edges, lambda s: fractions(observable.plotted(s), edges)))


def likelihood_distribution(samples: Samples, residuals: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Draw by how many standard deviations the log-likelihood of showers is above the ordinary one of their energy.

    Args:
        samples: what is compared.
        residuals: sample name to that of its showers, the reference's first.
    """
    reference, *others = residuals.values()
    edges = bin_edges(reference, n_bins=number_of_bins(len(reference)))
    curves = {name: fractions(values, edges) for name, values in zip(samples.generated, others, strict=True)}
    axis = Axis("log p above the ordinary one of that energy [std. dev.]", "Fraction of showers")
    return samples.draw(axis, Panel(edges, fractions(reference, edges), curves))
