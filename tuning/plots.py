"""Plots of a tuning: the objective trial by trial, and against the parameters."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from caloforge.tuning.result import Trial, Tuning

DPI = 130
COLOUR, LINE = "#0072B2", "#52525b"
DECADES = 30.0
"""Numbers whose greatest is this many times their least are drawn on a logarithmic axis."""


def write_plots(tuning: Tuning, folder: Path) -> None:
    """Write ``history.png`` and ``parallel_coordinates.png``."""
    history(tuning).savefig(folder / "history.png", dpi=DPI)
    parallel_coordinates(tuning).savefig(folder / "parallel_coordinates.png", dpi=DPI)


def plots_html(tuning: Tuning) -> str:
    """Return both plots as one page that needs no other file, as Kubeflow's viewer demands."""
    pictures = {}
    for name, figure in (("history", history(tuning)), ("parameters", parallel_coordinates(tuning))):
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
        pictures[name] = content.getvalue()
    return pictures_html("Tuning", pictures)


_LOOKS = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #18181b; }
img { max-width: 100%; display: block; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #dcdce0; white-space: nowrap; }
th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
</style>
"""


def pictures_html(title: str, pictures: Mapping[str, bytes], *, note: str = "") -> str:
    """Return PNGs by name as one page that needs no other file, under a note in HTML."""
    page = f'<!DOCTYPE html>\n<meta charset="utf-8">\n<title>{title}</title>\n{_LOOKS}{note}'
    for name, content in pictures.items():
        page += f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(content).decode()}">\n'
    return page


def history(tuning: Tuning) -> Figure:
    """Draw the objective of each trial in its turn, and the best so far."""
    if tuning.best is None:
        return _nothing(tuning)
    turns = [turn for turn, trial in enumerate(tuning.trials, 1) if trial.state == "succeeded"]
    values = np.array([tuning.trials[turn - 1].metrics[tuning.objective] for turn in turns])
    best = np.maximum.accumulate(values) if tuning.maximize else np.minimum.accumulate(values)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.step(turns, best, where="post", color=LINE, label="best so far")
    axes.plot(turns, values, "o", color=COLOUR, label="trial")
    axes.set(xlabel="Trial", ylabel=tuning.objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if values.min() > 0 and values.max() > DECADES * values.min():
        axes.set_yscale("log")
    axes.legend(frameon=False)
    return figure


def parallel_coordinates(tuning: Tuning) -> Figure:
    """Draw each trial as a line through its parameters; bright lines are good trials."""
    trials = tuning.ranked[::-1]  # the best last, on top
    if not trials:
        return _nothing(tuning)
    paths = list(trials[0].parameters)
    values = np.array([trial.metrics[tuning.objective] for trial in trials])
    columns = {path: _heights(trials, path) for path in paths}
    figure = Figure(figsize=(max(6.0, 1.6 * (len(paths) + 1)), 4), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["viridis" if tuning.maximize else "viridis_r"]
    low, high = float(values.min()), float(values.max())
    logarithmic = low > 0 and high > DECADES * low
    norm = (LogNorm if logarithmic else Normalize)(low, high if high > low else low + (abs(low) or 1.0))
    places = np.arange(len(paths))
    for row, value in enumerate(values):
        heights = [columns[path][0][row] for path in paths]
        axes.plot(places, heights, "o-", color=colours(norm(value)), alpha=0.85, markersize=3)
    for place, path in enumerate(paths):
        axes.axvline(place, color=LINE, linewidth=0.6)
        for height, text in columns[path][1]:
            axes.annotate(text, (place, height), xytext=(3, 2), textcoords="offset points", fontsize=7)
    axes.set_xticks(places, [path.replace(".", ".\n") for path in paths], fontsize=7)
    axes.set_yticks([])
    axes.margins(x=0.08)
    figure.colorbar(ScalarMappable(norm, colours), ax=axes, label=tuning.objective)
    return figure


def _nothing(tuning: Tuning) -> Figure:
    """Say that there is nothing to draw."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    figure.text(0.5, 0.5, f"No trial gave {tuning.objective}.", ha="center", color=LINE)
    return figure


def _heights(trials: list[Trial], path: str) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Return each trial's height on the axis of one parameter, from 0 to 1, and the axis' marks."""
    given = [trial.parameters[path] for trial in trials]
    if any(isinstance(value, str | bool) for value in given):
        names = sorted({str(value) for value in given})
        scale = max(len(names) - 1, 1)
        heights = np.array([names.index(str(value)) / scale for value in given])
        return heights, [(i / scale, name) for i, name in enumerate(names)]
    numbers = np.array(given, dtype=np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    marks = [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
    if low == high:
        return np.full(len(numbers), 0.5), [(0.5, f"{low:.3g}")]
    if low > 0 and high > DECADES / 3 * low:
        numbers, low, high = np.log(numbers), np.log(low), np.log(high)
    return (numbers - low) / (high - low), marks
