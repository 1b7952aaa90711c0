"""Curves of several samples over the reference, with their ratio and their pull below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from caloforge.validation.observables.histogram import Curve
from caloforge.validation.observables.summary import Summary
from caloforge.validation.plots.style import BAND, FILL, LINE, REFERENCE, colours, escaped, head, number_decades

FloatArray = NDArray[np.float64]

PULLS = 5.0
"""Where the pull panel ends."""


@dataclass(frozen=True)
class Axis:
    """What the axes of a plot say and how they are scaled.

    Attributes:
        x: label with unit.
        y: label with unit.
        log_x: logarithmic bins.
        log_y: logarithmic values.
        ratio: limits of the ratio panel.
        filled: fill the reference down to the axis, as for a histogram.
        whole: the bins are counted, not measured.
        names: of the bins, which then lie about 0, 1, ...
    """

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    ratio: tuple[float, float] = (0.5, 1.5)
    filled: bool = True
    whole: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """What stands in one column of a figure.

    Attributes:
        edges: (B + 1,) bin edges.
        reference: drawn in grey with its error as a band.
        curves: generator name to curve, drawn as coloured steps.
        title: which showers, above the frame; empty: all.
        lines: sample name to (x, y) of a smooth line over the upper panel, e.g. a fit.
        marks: label to x of a vertical line.
    """

    edges: FloatArray
    reference: Curve
    curves: Mapping[str, Curve]
    title: str = ""
    lines: Mapping[str, tuple[FloatArray, FloatArray]] | None = None
    marks: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Samples:
    """The samples that a plot compares.

    Attributes:
        reference: the Geant4 sample.
        generated: generator name to its sample.
    """

    reference: Summary
    generated: Mapping[str, Summary]

    @property
    def note(self) -> str:
        """What the showers are, above the frame."""
        return escaped(self.reference.geometry.name)

    @property
    def numbers(self) -> dict[str, int]:
        """Sample name to its number of showers, for the legend."""
        return {REFERENCE: len(self.reference)} | {name: len(summary) for name, summary in self.generated.items()}

    def panel(self, edges: FloatArray, curve: Callable[[Summary], Curve], **other: Any) -> Panel:
        """Return a panel of the same curve of all samples; ``other`` are further fields of it."""
        return Panel(edges, curve(self.reference), {name: curve(s) for name, s in self.generated.items()}, **other)

    def draw(self, axis: Axis, *panels: Panel) -> Figure:
        """Draw panels beside each other, each with its ratio and its pull below."""
        return columns(panels, axis, self.note, self.numbers)


def pull(curve: Curve, reference: Curve) -> FloatArray:
    """Return the difference over both errors together in each bin, (B,); NaN without an error."""
    with np.errstate(all="ignore"):
        result: FloatArray = (curve.value - reference.value) / np.hypot(curve.error, reference.error)
    result[~np.isfinite(result)] = np.nan
    return result


def columns(panels: Sequence[Panel], axis: Axis, note: str, numbers: Mapping[str, int]) -> Figure:
    """Draw columns beside each other with common vertical axes.

    Args:
        panels: what stands in each: curves, below them their ratio to the reference and their pull.
        axis: labels and scales.
        note: what the showers are, above the frame.
        numbers: sample name to its number of showers, for the legend.
    """
    n = len(panels)
    width, height = (5.6, 5.8) if n == 1 else (0.85 + 3.5 * n, 6.1)
    left, right, gap = 0.81 / width, 1 - 0.17 / width, 0.1 / width
    each = (right - left - (n - 1) * gap) / n
    figure = Figure(figsize=(width, height))
    limits = _limits(panels, axis)
    for i, panel in enumerate(panels):
        place = left + i * (each + gap)
        rows = [
            figure.add_axes((place, low / height, each, high / height))
            for low, high in ((2.32, 3.13), (1.42, 0.82), (0.52, 0.82))
        ]
        _draw_column(rows, panel, axis, limits, numbers if n == 1 else {})
        _finish(rows, axis, first=i == 0, last=i == n - 1)
        if n == 1:
            head(rows[0], note)
            rows[0].legend(ncols=2, loc="upper right")
        else:
            rows[0].text(
                0.03, 0.97, panel.title, transform=rows[0].transAxes, ha="left", va="top", fontsize=9.5, weight="bold"
            )
    if n > 1:
        first, last = figure.axes[0], figure.axes[-3]
        head(first, "")
        head(last, f"{note}, N = {numbers[REFERENCE]} of each", package="")
        handles, labels = first.get_legend_handles_labels()
        figure.legend(handles, labels, ncols=min(len(labels), 4), loc="upper center", bbox_to_anchor=(0.5, 1.005))
    return figure


def _draw_column(
    rows: Sequence[Axes], panel: Panel, axis: Axis, limits: tuple[float, float], numbers: Mapping[str, int]
) -> None:
    top, middle, bottom = rows
    edges, reference = panel.edges, panel.reference
    for axes in rows:
        axes.set_xscale("log" if axis.log_x else "linear")
        axes.set_xlim(edges[0], edges[-1])
    top.set_yscale("log" if axis.log_y else "linear")
    top.set_ylim(*limits)
    middle.set_ylim(*axis.ratio)
    bottom.set_ylim(-PULLS, PULLS)

    label = _label(REFERENCE, numbers)
    if axis.filled:
        _steps(top, reference.value, edges, fill=True, facecolor=FILL, edgecolor=LINE, linewidth=1.2, label=label)
    else:
        _steps(top, reference.value, edges, baseline=None, color=LINE, linewidth=1.2, label=label)
    with np.errstate(all="ignore"):
        relative = reference.error / np.abs(reference.value)
    _band(top, edges, reference.value, reference.error)
    _band(middle, edges, np.ones_like(relative), relative)
    bottom.axhspan(-1, 1, color=BAND, alpha=0.35, linewidth=0)
    for axes, level in ((middle, 1), (bottom, 0)):
        axes.axhline(level, color=LINE, linewidth=0.8)
    for (name, curve), colour in zip(panel.curves.items(), colours(len(panel.curves)), strict=True):
        _steps(top, curve.value, edges, baseline=None, color=colour, linewidth=1.4, label=_label(name, numbers))
        if not axis.filled:
            _error_bars(top, edges, curve, colour)
        ratio = _ratio(curve, reference)
        _steps(middle, ratio.value, edges, baseline=None, color=colour, linewidth=1.2)
        _error_bars(middle, edges, ratio, colour)
        _mark_outside(middle, edges, ratio.value, axis.ratio, colour)
        pulls = pull(curve, reference)
        _steps(bottom, pulls, edges, baseline=None, color=colour, linewidth=1.2)
        _mark_outside(bottom, edges, pulls, (-PULLS, PULLS), colour)
    for name, colour in zip((REFERENCE, *panel.curves), (LINE, *colours(len(panel.curves))), strict=True):
        if panel.lines and name in panel.lines:
            top.plot(*panel.lines[name], color=colour, linewidth=1, linestyle=":")
    for mark, place in (panel.marks or {}).items():
        top.axvline(place, ymax=0.6, color=LINE, linewidth=0.8, linestyle="--")
        top.annotate(
            mark, (place, 0.56), xycoords=top.get_xaxis_transform(), xytext=(3, 0), textcoords="offset points",
            fontsize=9, color=LINE,
        )  # fmt: skip


def _label(name: str, numbers: Mapping[str, int]) -> str:
    return f"{escaped(name)} (N = {numbers[name]})" if name in numbers else escaped(name)


def _finish(rows: Sequence[Axes], axis: Axis, *, first: bool, last: bool) -> None:
    """Write ticks and labels."""
    top, middle, bottom = rows
    quarter = (axis.ratio[1] - axis.ratio[0]) / 4
    middle.set_yticks([1 - quarter, 1, 1 + quarter])
    bottom.set_yticks([-3, 0, 3])
    for axes in rows:
        axes.tick_params(which="both", labelbottom=axes is bottom, labelleft=first)
        if axis.log_x:
            number_decades(axes.xaxis)
        if axis.whole:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axis.names:
            axes.set_xticks(range(len(axis.names)), [escaped(name) for name in axis.names])
            axes.xaxis.set_minor_locator(NullLocator())
    if first:
        left = -0.645 / (top.get_position().width * top.figure.get_figwidth())  # type: ignore[union-attr]
        for axes, text in ((top, axis.y), (middle, f"Ratio to\n{REFERENCE}"), (bottom, "Pull")):
            upper = axes is top
            axes.text(
                left, 1 if upper else 0.5, text, transform=axes.transAxes, rotation=90,
                ha="left", va="top" if upper else "center", multialignment="center", fontsize=10 if upper else 9,
            )  # fmt: skip
    if last:
        bottom.annotate(
            axis.x, (1, 0), xycoords="axes fraction", xytext=(0, -16), textcoords="offset points",
            ha="right", va="top", fontsize=10,
        )  # fmt: skip


def _ratio(curve: Curve, reference: Curve) -> Curve:
    """Return the ratio with the curve's own error only; the reference's is drawn as a band."""
    with np.errstate(all="ignore"):
        error = curve.error / np.abs(reference.value)
        error[~np.isfinite(error)] = np.nan
        return Curve(curve.value / reference.value, error)


def _limits(panels: Sequence[Panel], axis: Axis) -> tuple[float, float]:
    """Return the limits of the upper panels, with room for the legend."""
    curves = [curve for panel in panels for curve in (panel.reference, *panel.curves.values())]
    signs = (0,) if axis.log_y or axis.filled else (-1, 0, 1)
    values = np.concatenate([curve.value + sign * np.nan_to_num(curve.error) for curve in curves for sign in signs])
    values = values[np.isfinite(values)]
    high = values.max(initial=0) or 1.0
    # A column has a title of one line; a single one has the legend, two names to a line.
    room = 0.1 if len(panels) > 1 else 0.15 + 0.06 * np.ceil((1 + len(panels[0].curves)) / 2)
    if axis.log_y:
        low = max(values[values > 0].min(initial=high), high * 1e-7)
        return low / 2, high * (high / low) ** (room / (1 - room)) * 1.5
    if axis.filled:
        return 0.0, high / (1 - room)
    low = values.min(initial=high)
    span = max(high - low, 0.1 * abs(high))
    bottom = low - 0.2 * span
    return (max(bottom, 0.0) if low >= 0 else bottom), high + span * 1.2 * room / (1 - room)


def _band(axes: Axes, edges: FloatArray, value: FloatArray, error: FloatArray) -> None:
    _steps(axes, value + error, edges, baseline=value - error, fill=True, color=BAND, alpha=0.6, linewidth=0)


def _steps(axes: Axes, values: FloatArray, edges: FloatArray, **options: Any) -> None:
    """Draw values as steps; unlike ``Axes.stairs`` it does not work out limits, which are set anyway."""
    options.setdefault("fill", False)
    axes.add_artist(StepPatch(values, edges, **options))


def _error_bars(axes: Axes, edges: FloatArray, curve: Curve, colour: str) -> None:
    known = np.isfinite(curve.value) & np.isfinite(curve.error)
    middle, low, high = (
        x[known] for x in (_middles(axes, edges), curve.value - curve.error, curve.value + curve.error)
    )
    gaps = np.full_like(low, np.nan)  # one line with gaps is drawn faster than a line for each bin
    axes.plot(np.repeat(middle, 3), np.stack([low, high, gaps], axis=1).ravel(), color=colour, linewidth=0.8, alpha=0.7)


def _middles(axes: Axes, edges: FloatArray) -> FloatArray:
    if axes.get_xscale() == "log":
        return np.sqrt(edges[1:] * edges[:-1])
    return (edges[1:] + edges[:-1]) / 2


def _mark_outside(axes: Axes, edges: FloatArray, values: FloatArray, limits: tuple[float, float], colour: str) -> None:
    """Mark bins whose value lies outside the panel by a triangle at its border."""
    middle = _middles(axes, edges)
    margin = 0.07 * (limits[1] - limits[0])
    with np.errstate(invalid="ignore"):
        sides = ((values > limits[1], limits[1] - margin, "^"), (values < limits[0], limits[0] + margin, "v"))
    for beyond, height, marker in sides:
        if beyond.any():
            axes.plot(middle[beyond], np.full(beyond.sum(), height), marker, color=colour, markersize=3, linewidth=0)
