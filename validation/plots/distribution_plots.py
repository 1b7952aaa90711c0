"""Plots of the observables' distributions."""

from __future__ import annotations

from matplotlib.figure import Figure

from caloforge.validation.observables.histogram import bin_edges, fractions, number_of_bins
from caloforge.validation.observables.observable import Observable
from caloforge.validation.plots.panels import Axis, Samples


def distribution(samples: Samples, observable: Observable) -> Figure:
    """Draw the distribution of an observable; the outermost bins hold what lies beyond them."""
    values = observable.plotted(samples.reference)
    edges = bin_edges(values, log=observable.log, n_bins=number_of_bins(len(values)))
    unit = f" [{observable.unit}]" if observable.unit else ""
    axis = Axis(f"{observable.label or observable.title}{unit}", "Fraction of showers", log_x=observable.log)
    return samples.draw(axis, samples.panel(edges, lambda s: fractions(observable.plotted(s), edges)))
