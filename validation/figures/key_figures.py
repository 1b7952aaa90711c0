"""The figures that are followed through bins of the conditions: incident energy, angles, particle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import norm
from scipy.stats import t as student

from caloforge.validation.figures.found import Found, figure_rows
from caloforge.validation.figures.physics import has_depth, maxima_in_bins
from caloforge.validation.observables.conditions import CONDITIONS, Condition, present
from caloforge.validation.observables.histogram import Curve, mean_in_bins
from caloforge.validation.observables.per_shower import (
    containment_radius,
    empty_layers,
    hottest_voxel_share,
    longitudinal_first_moment,
    number_of_voxels,
    response,
)
from caloforge.validation.observables.summary import Summary
from caloforge.validation.registries import KEY_FIGURES
from caloforge.validation.row import IN_BINS, Parts, Row
from caloforge.validation.significance import LARGEST

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class KeyFigure:
    """A figure with a value in each bin.

    Attributes:
        title: name in tables.
        unit: its unit, empty for a pure number.
        label: name on axes; mathtext.
        values: takes a summary to (N,) values, or (N, 0) where the geometry has no such thing.
        statistic: ``mean`` of the values, their ``resolution`` (standard deviation over mean), or
            the ``maximum`` of the mean profile, which takes no values.
        ratio: limits of the ratio panel.
    """

    title: str
    unit: str
    label: str
    values: Callable[[Summary], FloatArray]
    statistic: Literal["mean", "resolution", "maximum"] = "mean"
    ratio: tuple[float, float] = (0.8, 1.2)

    def curve(self, summary: Summary, condition: Condition, edges: FloatArray) -> Curve:
        """Return value and error in each bin, (B,); NaN with fewer than 10 showers."""
        where = condition.values(summary)
        assert where is not None
        where = where.astype(np.float64)  # particles are whole numbers
        if self.statistic == "maximum":
            return Curve(*maxima_in_bins(summary, where, edges))
        values = self.values(summary)
        return mean_in_bins(where, values, edges) if self.statistic == "mean" else _resolution(where, values, edges)


RESPONSE = KeyFigure("Mean response", "", r"Mean $E_\mathrm{vis}\,/\,E_\mathrm{inc}$", response, ratio=(0.9, 1.1))
RESOLUTION = KeyFigure("Resolution", "", r"Resolution $\sigma\,/\,\mathrm{mean}$", response, "resolution", (0.5, 1.5))
LONGITUDINAL_CENTRE = KeyFigure(
    "Mean longitudinal centre", "layers", "Mean longitudinal centre [layers]", longitudinal_first_moment
)
SHOWER_MAXIMUM = KeyFigure("Shower maximum", "layers", "Shower maximum [layers]", longitudinal_first_moment, "maximum")
RADIUS_90 = KeyFigure(
    "Mean radius of 90 % of the energy", "mm", "Mean $R_{90}$ [mm]", lambda s: containment_radius(s, 0.9)
)
HOTTEST_VOXEL_SHARE = KeyFigure(
    "Mean share of the hottest voxel", "", "Mean share of the hottest voxel", hottest_voxel_share
)
NUMBER_OF_VOXELS = KeyFigure(
    "Mean number of voxels above threshold", "", "Mean number of voxels above threshold", number_of_voxels
)
EMPTY_LAYERS = KeyFigure(
    "Mean fraction of empty layers", "", "Mean fraction of empty layers", empty_layers, ratio=(0.5, 1.5)
)


def figures_in_bins(summary: Summary) -> list[str]:
    """Return the names of the key figures that the sample's geometry defines."""
    return [
        name
        for name, figure in KEY_FIGURES.items()
        if figure.values(summary).ndim == 1 and (figure.statistic != "maximum" or has_depth(summary.geometry))
    ]


def _resolution(where: FloatArray, values: FloatArray, edges: FloatArray) -> Curve:
    """Return standard deviation over mean in each bin, with the error that the values' kurtosis makes."""
    mean = mean_in_bins(where, values, edges).value
    place = np.clip(np.searchsorted(edges, where, side="right") - 1, 0, len(mean) - 1)
    n = np.bincount(place, minlength=len(mean))
    off = values - mean[place]
    with np.errstate(all="ignore"):
        square, fourth = (np.bincount(place, weights=off**power, minlength=len(mean)) / n for power in (2, 4))
        value = np.sqrt(square * n / (n - 1)) / mean
        error = value * np.sqrt(np.maximum(fourth / square**2 - (n - 3) / (n - 1), 0) / (4 * n))
    return Curve(value, error)


def in_bins(reference: Summary, floor: Summary, others: Mapping[str, Summary]) -> Iterator[Row]:
    """Return all key figures in bins of all conditions.

    The value of a row sums the squared pulls of the bins where both have a value (brought from
    Student's t to normal ones, which is what a pull is with few showers), ``freedom`` counts them, and
    ``sigma`` says how improbable the sum is between equal samples.
    """
    for name, edges in present(reference, [floor, *others.values()]).items():
        condition = CONDITIONS[name]
        numbers = [_numbers(condition, s, edges) for s in (reference, floor, *others.values())]
        bins = _bins(condition, edges)
        for key in figures_in_bins(reference):
            figure = KEY_FIGURES.get(key)
            truth, second, *curves = (figure.curve(s, condition, edges) for s in (reference, floor, *others.values()))
            found = [
                _found(curve, truth, second, np.minimum(numbers[0], n), bins)
                for curve, n in zip((second, *curves), numbers[1:], strict=True)
            ]
            yield from figure_rows(
                f"{key}_{name}", figure.title, found[0], dict(zip(others, found[1:], strict=True)), n=len(reference),
                value=None, error=None, unit=figure.unit, kind=IN_BINS, group=f"In bins of {condition.title.lower()}",
                phrase=f"{figure.title} in bins of {condition.title}".lower(),
            )  # fmt: skip


def _bins(condition: Condition, edges: FloatArray) -> Parts:
    """Return the bins without any values."""
    ends = (edges * condition.scale).tolist()
    return Parts(what="bins", where=condition.bins(edges), edges=tuple(ends), unit=condition.unit)


def _numbers(condition: Condition, summary: Summary, edges: FloatArray) -> FloatArray:
    where = condition.values(summary)
    assert where is not None
    return np.histogram(where, edges)[0].astype(np.float64)


def _found(curve: Curve, truth: Curve, second: Curve, numbers: FloatArray, bins: Parts) -> Found:
    spread = np.hypot(curve.error, truth.error)
    known = np.isfinite(curve.value - truth.value) & (spread > 0)
    pulls = np.abs(curve.value - truth.value)[known] / spread[known]
    pulls = np.clip(norm.isf(student.sf(pulls, numbers[known] - 1)), 0, LARGEST)
    chi2, freedom = float((pulls**2).sum()), int(known.sum())
    sigma = float(np.clip(norm.isf(chi2_distribution.sf(chi2, freedom)), -LARGEST, LARGEST)) if freedom else 0.0
    values = {
        "value": _plain(curve.value), "error": _plain(curve.error), "floor": _plain(second.value),
        "floor_error": _plain(second.error), "reference": _plain(truth.value), "reference_error": _plain(truth.error),
    }  # fmt: skip
    return Found(chi2, None, sigma, parts=bins.model_copy(update=values), freedom=freedom)


def _plain(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(value if np.isfinite(value) else None for value in values.tolist())
