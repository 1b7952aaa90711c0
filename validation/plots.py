"""Plots of a validation: the reference, each generator over it, and their ratio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from caloforge.validation.events import Event
from caloforge.validation.histogram import bin_edges, energy_edges, histogram
from caloforge.validation.metrics import headline_labels
from caloforge.validation.observables import OBSERVABLES, Observable, empty_layers, response
from caloforge.validation.physics import layer_correlation, maxima_by_energy
from caloforge.validation.summary import Profile, Summary

FloatArray = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008)."""

FILL, LINE, BAND = "#dcdce0", "#52525b", "#a1a1aa"
REFERENCE = "Geant4"
DPI = 130


@dataclass(frozen=True)
class Plot:
    """A plot that was written.

    Attributes:
        path: the PNG.
        title: what it shows.
        group: heading of the report that it stands under.
    """

    path: Path
    title: str
    group: str


@dataclass(frozen=True)
class Curve:
    """Values in bins with their errors, (B,) each; NaN where a bin holds nothing."""

    value: FloatArray
    error: FloatArray


@dataclass(frozen=True)
class Axis:
    """What the axes of a plot say and how they are scaled."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    ratio: tuple[float, float] = (0.5, 1.5)


def write_plots(
    reference: Summary,
    generated: Mapping[str, Summary],
    metrics: Mapping[str, Any],
    showers: Mapping[str, Sequence[Event]],
    folder: Path,
) -> list[Plot]:
    """Draw everything and write it as PNG files.

    Args:
        reference: the Geant4 sample.
        generated: generator name to its sample.
        metrics: content of ``metrics.json``.
        showers: sample name to its single showers, the reference's first.
        folder: where the files go; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def keep(figure: Figure, name: str, title: str, group: str) -> None:
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=DPI)
        written.append(Plot(path, title, group))

    note = f"{_escaped(reference.geometry.name)}, N = {len(reference)}"
    keep(longitudinal_profile(reference, generated, note), "longitudinal_profile", "Longitudinal profile", "Profiles")
    keep(
        longitudinal_profile(reference, generated, note, log=True),
        "longitudinal_profile_log", "Longitudinal profile, log scale", "Profiles",
    )  # fmt: skip
    keep(lateral_profile(reference, generated, note), "lateral_profile", "Lateral profile", "Profiles")
    keep(voxel_spectrum(reference, generated, note), "voxel_spectrum", "Voxel energies", "Profiles")
    keep(response_against_energy(reference, generated, note), "response_energy", "Response", "Energy")
    keep(
        resolution_against_energy(reference, generated, note, fitted_terms(metrics["physics"])),
        "resolution_energy", "Resolution", "Energy",
    )  # fmt: skip
    keep(empty_layers_against_energy(reference, generated, note), "empty_layers_energy", "Empty layers", "Energy")
    if reference.geometry.n_layers > 2:
        keep(maximum_against_energy(reference, generated, note), "shower_maximum_energy", "Shower maximum", "Energy")
    if reference.geometry.n_layers > 1:
        keep(correlations(reference, generated), "correlations", "Correlations between layers", "Layers")
    for name, observable in OBSERVABLES.items():
        if observable.columns(reference).shape[1] > 0:
            keep(distribution(observable, reference, generated, note), name, observable.title, observable.group)
    keep(images(reference, generated), "images", "Average shower, energy per area", "Average shower")
    keep(event_display(reference, showers), "showers", "Single showers from the side", "Single showers")
    generators = metrics["generators"]
    for key, label in headline_labels(next(iter(generators.values()))["rocs"]).items():
        rocs = {name: (values["rocs"][key], values[key]["value"]) for name, values in generators.items()}
        stem = "roc" if key == "auc" else f"roc_{key.removeprefix('auc_')}"
        keep(roc_curves(rocs, note), stem, f"ROC, {label}", "Classifier")
    return written


def distribution(observable: Observable, reference: Summary, generated: Mapping[str, Summary], note: str) -> Figure:
    """Draw the distribution of an observable; the outermost bins hold what lies beyond them."""
    values = observable.plotted(reference)
    n_bins = int(np.clip(np.sqrt(len(values)) / 1.5, 10, 50))
    edges = bin_edges(values, log=observable.log, n_bins=n_bins)

    def curve(summary: Summary) -> Curve:
        fractions = histogram(observable.plotted(summary), edges)
        inside = fractions[1:-1]
        inside[0] += fractions[0]
        inside[-1] += fractions[-1]
        return Curve(inside, np.sqrt(inside / len(summary)))

    unit = f" [{observable.unit}]" if observable.unit else ""
    axis = Axis(f"{observable.label or observable.title}{unit}", "Fraction of showers", log_x=observable.log)
    return with_ratio(edges, curve(reference), {name: curve(s) for name, s in generated.items()}, axis, note)


def longitudinal_profile(
    reference: Summary, generated: Mapping[str, Summary], note: str, *, log: bool = False
) -> Figure:
    """Draw the mean energy of each layer."""

    def curve(summary: Summary) -> Curve:
        energy = summary.layer_energy
        return Curve(energy.mean(axis=0), energy.std(axis=0) / np.sqrt(len(energy)))

    edges = np.arange(reference.geometry.n_layers + 1, dtype=np.float64) - 0.5
    axis = Axis("Layer", "Mean energy [MeV]", log_y=log)
    return with_ratio(edges, curve(reference), {name: curve(s) for name, s in generated.items()}, axis, note)


def lateral_profile(reference: Summary, generated: Mapping[str, Summary], note: str) -> Figure:
    """Draw the mean energy per area against the distance from the axis."""
    curves = {name: _of_profile(summary.lateral) for name, summary in generated.items()}
    axis = Axis("$r$ [mm]", "Mean energy per area [MeV/mm²]", log_y=True)
    return with_ratio(reference.lateral.edges, _of_profile(reference.lateral), curves, axis, note)


def voxel_spectrum(reference: Summary, generated: Mapping[str, Summary], note: str) -> Figure:
    """Draw the mean number of voxels per shower against voxel energy."""
    filled = np.flatnonzero(np.any([s.spectrum.mean > 0 for s in (reference, *generated.values())], axis=0))
    used = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1)
    edges = reference.spectrum.edges[used.start : used.stop + 1]

    def curve(summary: Summary) -> Curve:
        return Curve(summary.spectrum.mean[used], summary.spectrum.error[used])

    axis = Axis("Voxel energy [MeV]", "Voxels per shower", log_x=True, log_y=True)
    return with_ratio(edges, curve(reference), {name: curve(s) for name, s in generated.items()}, axis, note)


def response_against_energy(reference: Summary, generated: Mapping[str, Summary], note: str) -> Figure:
    """Draw the mean response in bins of the incident energy."""
    edges = energy_edges(reference.incident_energy)
    curves = {name: _response(summary, edges) for name, summary in generated.items()}
    axis = Axis(r"$E_\mathrm{inc}$ [GeV]", r"Mean $E_\mathrm{tot}\,/\,E_\mathrm{inc}$", log_x=True, ratio=(0.9, 1.1))
    return with_ratio(edges / 1000, _response(reference, edges), curves, axis, note, filled=False)


def resolution_against_energy(
    reference: Summary,
    generated: Mapping[str, Summary],
    note: str,
    terms: Mapping[str, tuple[float, float, float]] | None = None,
) -> Figure:
    """Draw the relative width of the response in bins of the incident energy, and fits of it.

    Args:
        reference: the Geant4 sample.
        generated: generator name to its sample.
        note: what the showers are.
        terms: fitted a, b, c of a/sqrt(E) (+) b/E (+) c (E in GeV) by generator name, the reference's by its own.
    """
    edges = energy_edges(reference.incident_energy)

    def curve(summary: Summary) -> Curve:
        mean, n = _response(summary, edges), _numbers(summary, edges)
        with np.errstate(all="ignore"):
            value = mean.error * np.sqrt(n) / mean.value
            return Curve(value, value / np.sqrt(2 * (n - 1)))

    axis = Axis(r"$E_\mathrm{inc}$ [GeV]", r"Resolution $\sigma\,/\,\mathrm{mean}$", log_x=True)
    curves = {name: curve(summary) for name, summary in generated.items()}
    figure = with_ratio(edges / 1000, curve(reference), curves, axis, note, filled=False)
    energy = np.geomspace(edges[0], edges[-1], 100) / 1000
    for name, colour in zip((REFERENCE, *generated), (LINE, *_colours(len(generated))), strict=True):
        if terms and name in terms:
            a, b, c = terms[name]
            fit = np.sqrt(a**2 / energy + (b / energy) ** 2 + c**2)
            figure.axes[0].plot(energy, fit, color=colour, linewidth=1, linestyle=":")
    return figure


def fitted_terms(physics: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Return a, b and c of each sample that has them, from the physics figures of ``metrics.json``."""
    found = [physics[name] for name in ("stochastic_term", "noise_term", "constant_term") if name in physics]
    if len(found) < 3:
        return {}
    a, b, c = found
    terms = {name: (a["generators"][name], b["generators"][name], c["generators"][name]) for name in a["generators"]}
    terms[REFERENCE] = (a, b, c)
    values = {name: tuple(term["value"] for term in three) for name, three in terms.items()}
    return {name: (x, y, z) for name, (x, y, z) in values.items() if None not in (x, y, z)}


def empty_layers_against_energy(reference: Summary, generated: Mapping[str, Summary], note: str) -> Figure:
    """Draw the mean fraction of layers without energy in bins of the incident energy."""
    edges = energy_edges(reference.incident_energy)
    curves = {name: _mean(empty_layers(summary), summary, edges) for name, summary in generated.items()}
    axis = Axis(r"$E_\mathrm{inc}$ [GeV]", "Mean fraction of empty layers", log_x=True)
    truth = _mean(empty_layers(reference), reference, edges)
    return with_ratio(edges / 1000, truth, curves, axis, note, filled=False)


def maximum_against_energy(reference: Summary, generated: Mapping[str, Summary], note: str) -> Figure:
    """Draw the layer where the mean profile is highest in bins of the incident energy, which are even in ln E."""
    edges = energy_edges(reference.incident_energy)

    def curve(summary: Summary) -> Curve:
        value, error = maxima_by_energy(summary, edges)
        return Curve(value, error)

    axis = Axis(r"$E_\mathrm{inc}$ [GeV]", "Shower maximum [layer]", log_x=True, ratio=(0.8, 1.2))
    curves = {name: curve(summary) for name, summary in generated.items()}
    return with_ratio(edges / 1000, curve(reference), curves, axis, note, filled=False)


def correlations(reference: Summary, generated: Mapping[str, Summary]) -> Figure:
    """Draw the correlation matrix of the layer energies, and each generator's difference from it."""
    truth = layer_correlation(reference)
    maps = [(REFERENCE, truth, "RdBu_r", 1.0)]
    maps += [(name, layer_correlation(s) - truth, "PuOr_r", 0.3) for name, s in generated.items()]
    n_columns = min(len(maps), 3)
    n_rows = -(-len(maps) // n_columns)
    figure = Figure(figsize=(3.75 * n_columns, 3.3 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, (name, matrix, colours, high) in zip(grid, maps, strict=False):
        image = axes.imshow(matrix, cmap=colours, vmin=-high, vmax=high, origin="lower", interpolation="nearest")
        difference = "" if name == REFERENCE else f" minus {REFERENCE}"
        axes.set_title(f"{_escaped(name)}{difference}", fontsize=10, weight="bold")
        axes.set_xlabel("Layer", loc="right")
        axes.set_ylabel("Layer", loc="top")
        for scale in (axes.xaxis, axes.yaxis):
            scale.set_major_locator(MaxNLocator(6, integer=True))
        figure.colorbar(image, ax=axes, shrink=0.85)
    for axes in grid[len(maps) :]:
        axes.set_axis_off()
    return figure


def _numbers(summary: Summary, edges: FloatArray) -> FloatArray:
    return np.histogram(summary.incident_energy, edges)[0].astype(np.float64)


def _response(summary: Summary, edges: FloatArray) -> Curve:
    """Return the mean response per energy bin and its error; NaN with fewer than 2 showers."""
    return _mean(response(summary), summary, edges)


def _mean(values: FloatArray, summary: Summary, edges: FloatArray) -> Curve:
    """Return the mean of (N,) values per energy bin and its error; NaN with fewer than 2 showers."""
    energy = summary.incident_energy
    n = _numbers(summary, edges)
    n[n < 2] = np.nan
    mean = np.histogram(energy, edges, weights=values)[0] / n
    square = np.histogram(energy, edges, weights=values**2)[0] / n
    return Curve(mean, np.sqrt(np.maximum(square - mean**2, 0) / n))


def _of_profile(profile: Profile) -> Curve:
    return Curve(profile.mean, profile.error)


def with_ratio(
    edges: FloatArray, reference: Curve, curves: Mapping[str, Curve], axis: Axis, note: str, *, filled: bool = True
) -> Figure:
    """Draw curves in bins over the reference, and their ratio to it below.

    Args:
        edges: (B + 1,) bin edges.
        reference: drawn in grey with its error as a band.
        curves: name to curve, drawn as coloured steps with error bars.
        axis: labels and scales.
        note: what the showers are, above the frame.
        filled: fill the reference down to the axis, as for a histogram.
    """
    figure = Figure(figsize=(5.6, 4.8))
    top = figure.add_axes((0.145, 0.335, 0.825, 0.59))
    bottom = figure.add_axes((0.145, 0.115, 0.825, 0.195), sharex=top)
    for axes in (top, bottom):
        axes.set_xscale("log" if axis.log_x else "linear")
    if filled:
        top.stairs(reference.value, edges, fill=True, facecolor=FILL, edgecolor=LINE, linewidth=1.2, label=REFERENCE)
    else:
        top.stairs(reference.value, edges, baseline=None, color=LINE, linewidth=1.2, label=REFERENCE)
    with np.errstate(all="ignore"):
        relative = reference.error / np.abs(reference.value)
    _band(top, edges, reference.value, reference.error)
    _band(bottom, edges, np.ones_like(relative), relative)
    bottom.axhline(1, color=LINE, linewidth=0.8)
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        top.stairs(curve.value, edges, baseline=None, color=colour, linewidth=1.4, label=_escaped(name))
        if not filled:
            _error_bars(top, edges, curve, colour)
        ratio = _ratio(curve, reference)
        bottom.stairs(ratio.value, edges, baseline=None, color=colour, linewidth=1.4)
        _error_bars(bottom, edges, ratio, colour)
        _mark_outside(bottom, edges, ratio.value, axis.ratio, colour)
    _limit(top, [reference, *curves.values()], log=axis.log_y, from_zero=filled)
    _label(top, bottom, edges, axis)
    _head(top, note)
    return figure


def _ratio(curve: Curve, reference: Curve) -> Curve:
    """Return the ratio with the curve's own error only; the reference's is drawn as a band."""
    with np.errstate(all="ignore"):
        error = curve.error / np.abs(reference.value)
        error[~np.isfinite(error)] = np.nan
        return Curve(curve.value / reference.value, error)


def _limit(axes: Axes, curves: Sequence[Curve], *, log: bool, from_zero: bool) -> None:
    """Set the limits of the upper panel, with room for the legend."""
    values = np.concatenate([curve.value for curve in curves])
    values = values[np.isfinite(values)]
    high = values.max(initial=0) or 1.0
    if log and (values > 0).any():
        axes.set_yscale("log")
        low = max(values[values > 0].min(), high * 1e-7)
        axes.set_ylim(low / 2, high * (high / low) ** 0.35 * 1.5)
    elif from_zero:
        axes.set_ylim(0, 1.45 * high)
    else:
        low = values.min(initial=high)
        span = max(high - low, 0.1 * high)
        axes.set_ylim(max(low - 0.3 * span, min(low, 0)), high + 0.6 * span)


def _label(top: Axes, bottom: Axes, edges: FloatArray, axis: Axis) -> None:
    top.set_xlim(edges[0], edges[-1])
    top.set_ylabel(axis.y, loc="top")
    top.legend(frameon=False, fontsize=8.5, ncols=2, loc="upper right")
    bottom.set_ylim(*axis.ratio)
    bottom.set_xlabel(axis.x, loc="right")
    bottom.set_ylabel(f"Ratio to\n{REFERENCE}", fontsize=8.5)
    quarter = (axis.ratio[1] - axis.ratio[0]) / 4
    bottom.yaxis.set_major_locator(FixedLocator([1 - quarter, 1, 1 + quarter]))
    for axes in (top, bottom):
        axes.tick_params(which="both", direction="in", top=True, right=True, labelsize=9)
        if axes.get_yscale() == "linear":
            axes.yaxis.set_minor_locator(AutoMinorLocator(2))
        if axis.log_x and edges[-1] / edges[0] < 1e4:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif not axis.log_x:
            axes.xaxis.set_minor_locator(AutoMinorLocator(2))
    top.tick_params(labelbottom=False)
    top.yaxis.set_label_coords(-0.115, 1.0)
    bottom.yaxis.set_label_coords(-0.095, 0.5)


def _head(axes: Axes, note: str) -> None:
    axes.text(0, 1.015, "caloforge", transform=axes.transAxes, fontsize=10, weight="bold", va="bottom")
    axes.text(1, 1.015, note, transform=axes.transAxes, fontsize=9, ha="right", va="bottom", color=LINE)


def _band(axes: Axes, edges: FloatArray, value: FloatArray, error: FloatArray) -> None:
    axes.stairs(value + error, edges, baseline=value - error, fill=True, color=BAND, alpha=0.6, linewidth=0)


def _error_bars(axes: Axes, edges: FloatArray, curve: Curve, colour: str) -> None:
    known = np.isfinite(curve.value) & np.isfinite(curve.error)
    middle, low, high = (
        x[known] for x in (_middles(axes, edges), curve.value - curve.error, curve.value + curve.error)
    )
    axes.vlines(middle, low, high, color=colour, linewidth=0.8, alpha=0.7)


def _middles(axes: Axes, edges: FloatArray) -> FloatArray:
    if axes.get_xscale() == "log":
        return np.sqrt(edges[1:] * edges[:-1])
    return (edges[1:] + edges[:-1]) / 2


def _mark_outside(axes: Axes, edges: FloatArray, ratio: FloatArray, limits: tuple[float, float], colour: str) -> None:
    """Mark bins whose ratio lies outside the panel by a triangle at its border."""
    middle = _middles(axes, edges)
    for beyond, height, marker in (
        (ratio > limits[1], limits[1] - 0.07 * (limits[1] - limits[0]), "^"),
        (ratio < limits[0], limits[0] + 0.07 * (limits[1] - limits[0]), "v"),
    ):
        axes.plot(middle[beyond], np.full(beyond.sum(), height), marker, color=colour, markersize=3, linestyle="none")


def roc_curves(rocs: Mapping[str, tuple[Mapping[str, Sequence[float]], float]], note: str) -> Figure:
    """Draw the ROC curve of the classifier for each generator; the diagonal is a perfect generator.

    Args:
        rocs: generator name to its curve (``fpr``, ``tpr``) and the area under it.
        note: what the showers are.
    """
    figure = Figure(figsize=(5.6, 4.8))
    axes = figure.add_axes((0.145, 0.115, 0.825, 0.81))
    axes.plot([0, 1], [0, 1], color=LINE, linestyle="--", linewidth=1, label="indistinguishable (AUC 0.5)")
    for (name, (roc, auc)), colour in zip(rocs.items(), _colours(len(rocs)), strict=True):
        axes.plot(roc["fpr"], roc["tpr"], color=colour, linewidth=1.6, label=f"{_escaped(name)} (AUC {auc:.3f})")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Generated showers taken for Geant4", loc="right")
    axes.set_ylabel("Geant4 showers recognised", loc="top")
    axes.tick_params(which="both", direction="in", top=True, right=True, labelsize=9)
    axes.xaxis.set_minor_locator(AutoMinorLocator(2))
    axes.yaxis.set_minor_locator(AutoMinorLocator(2))
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    _head(axes, note)
    return figure


def images(reference: Summary, generated: Mapping[str, Summary]) -> Figure:
    """Draw the mean energy per area over layer and r, and each generator's ratio to the reference.

    Beside the reference stands its statistical error, which says what ratios mean something.
    """
    truth = reference.image
    with np.errstate(all="ignore"):
        maps = [(REFERENCE, truth.mean, 100 * truth.error / truth.mean)]
        maps += [(name, s.image.mean, s.image.mean / truth.mean) for name, s in generated.items()]
    highest = max(float(truth.mean.max()), 1e-300)
    lowest = float(truth.mean[truth.mean > 0].min(initial=highest))
    scale = LogNorm(max(lowest, highest * 1e-6), highest * 1.0001)
    layers = np.arange(reference.geometry.n_layers + 1) - 0.5
    height = 0.55 + 1.9 * len(maps)  # inches
    figure = Figure(figsize=(11.2, height))
    grid = figure.subplots(len(maps), 2, sharex=True, sharey=True, squeeze=False)
    figure.subplots_adjust(
        left=0.055, right=0.925, wspace=0.28, hspace=0.1, bottom=0.47 / height, top=1 - 0.08 / height
    )  # fmt: skip
    for row, (name, mean, second) in enumerate(maps):
        left, right = grid[row]
        label, colours, limits = (
            (f"Ratio to {REFERENCE}", "RdBu_r", (0.5, 1.5)) if row else ("Statistical error [%]", "Greys", (0.0, 20.0))
        )
        image = left.pcolormesh(layers, truth.edges, np.ma.masked_less_equal(mean, 0).T, norm=scale, cmap="viridis")
        ratio = right.pcolormesh(
            layers, truth.edges, np.ma.masked_invalid(second).T, vmin=limits[0], vmax=limits[1], cmap=colours
        )
        _colour_bar(figure, left, image, "MeV/mm²", extend="min")
        _colour_bar(figure, right, ratio, label, extend="both" if row else "max")
        left.set_ylabel("$r$ [mm]")
        left.text(
            0.985, 0.93, _escaped(name), transform=left.transAxes, ha="right", va="top", weight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 2},
        )  # fmt: skip
    for axes in grid[-1]:
        axes.set_xlabel("Layer", loc="right")
    return figure


def event_display(reference: Summary, showers: Mapping[str, Sequence[Event]]) -> Figure:
    """Draw single showers from the side, a row for each sample and a column for each energy.

    Args:
        reference: for the mesh.
        showers: sample name to its showers, as many of each sample.
    """
    layers = np.arange(reference.geometry.n_layers + 1) - 0.5
    r_edges = reference.lateral.edges
    signed = np.concatenate([-r_edges[:0:-1], [0.0], r_edges[1:]])
    n_columns = max(len(row) for row in showers.values())
    highest = max(float(event.density.max()) for row in showers.values() for event in row) or 1.0
    figure = Figure(figsize=(11.2, 0.5 + 1.75 * len(showers)), layout="constrained")
    grid = figure.subplots(len(showers), n_columns, sharex=True, sharey=True, squeeze=False)
    scale = LogNorm(highest * 1e-5, highest)
    for axes_row, (name, row) in zip(grid, showers.items(), strict=True):
        for axes, event in zip(axes_row, row, strict=True):
            view = np.ma.masked_less_equal(_padded(event.density, signed), 0)
            image = axes.pcolormesh(layers, signed, view.T, norm=scale, cmap="viridis", rasterized=True)
            text = f"{_escaped(name)}, {event.incident_energy / 1000:.3g} GeV"
            axes.text(
                0.98, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=8.5, weight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.5},
            )  # fmt: skip
        axes_row[0].set_ylabel("$r$ [mm]")
    for axes in grid[-1]:
        axes.set_xlabel("Layer", loc="right")
    figure.colorbar(image, ax=grid, extend="min", aspect=40, pad=0.01).set_label("MeV/mm²", fontsize=9)
    return figure


def _padded(density: FloatArray, signed: FloatArray) -> FloatArray:
    """Insert an empty bin at the axis where the innermost ring is hollow."""
    missing = len(signed) - 1 - density.shape[1]
    middle = density.shape[1] // 2
    return np.insert(density, [middle] * missing, 0.0, axis=1)


def _colour_bar(
    figure: Figure, axes: Axes, mesh: QuadMesh, label: str, *, extend: Literal["min", "max", "both"]
) -> None:
    """Put a colour bar into the space right of the axes."""
    place = axes.get_position()
    bar = figure.colorbar(mesh, cax=figure.add_axes((place.x1 + 0.006, place.y0, 0.011, place.height)), extend=extend)
    bar.set_label(label, fontsize=9)
    bar.ax.minorticks_off()


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _escaped(name: str) -> str:
    """Return a name as matplotlib prints it literally; a leading underscore would hide a legend entry."""
    text = name.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
