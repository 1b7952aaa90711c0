"""Plot of an ablation: a line for each choice, a column for each figure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from caloforge.tuning.ablation import Ablation
from caloforge.tuning.objective import objective_names
from caloforge.tuning.plots import COLOUR, LINE

_LINE_HEIGHT = 0.32  # inches


def draw(ablation: Ablation) -> Figure:
    """Draw the mean of each figure with its error over seeds, the single trainings, and the floor.

    The dashed line is Geant4 against itself, the band the family's own settings with their error.
    """
    names, lines = objective_names(), ablation.lines
    rows = np.arange(len(lines))[::-1]
    figure = Figure(figsize=(2.2 + 2.6 * len(names), 1.2 + _LINE_HEIGHT * len(lines)), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names), sharey=True)), names, strict=True):
        own = lines[0].figures[name]
        if len(own.values) > 1:
            axes.axvspan(own.mean - own.error, own.mean + own.error, color=COLOUR, alpha=0.15, linewidth=0)
        floors = [value for line in lines for value in line.floors[name].values]
        if floors:
            axes.axvline(float(np.mean(floors)), color=LINE, linestyle="--", linewidth=1, label="Geant4 against itself")
        for row, line in zip(rows, lines, strict=True):
            found = line.figures[name]
            axes.plot(found.values, [row] * len(found.values), "o", color=COLOUR, alpha=0.35, markersize=3)
            if found.values:
                error = found.error if len(found.values) > 1 else 0.0
                axes.errorbar(found.mean, row, xerr=error, fmt="D", color=COLOUR, markersize=5, capsize=3)
        axes.set_yticks(rows, [line.label for line in lines])
        axes.set_ylim(-0.6, len(lines) - 0.4)
        axes.set_xlabel(name)
        axes.grid(axis="x", color="#e4e4e7", linewidth=0.6)
    if figure.axes[0].get_legend_handles_labels()[1]:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", frameon=False, fontsize=8)
    return figure
