"""Plot of a comparison of families: each figure against the time for a shower, with the Pareto front and the floor."""

from __future__ import annotations

import io

from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from caloforge.tuning.comparison import (
    MORE_IS_BETTER,
    FamilyComparison,
    FamilyLine,
    comparison_notes,
    comparison_rows,
)
from caloforge.tuning.plots import DPI, pictures_html
from caloforge.tuning.trial import HEADLINES
from caloforge.validation.plots.style import BAND, COLOURS, number_decades, style

_MARKERS = "os^Dv"
_LOGARITHMIC = ("fpd", "mean_separation")


def draw(comparison: FamilyComparison) -> Figure:
    """Draw means with their errors over seeds; small points are single trainings, the stepped line is the front."""
    done = [line for line in comparison.lines if line.trials]
    families = sorted({line.family for line in done})
    look = {
        name: (COLOURS[i % len(COLOURS)], _MARKERS[i // len(COLOURS) % len(_MARKERS)])
        for i, name in enumerate(families)
    }
    budgets = sorted({line.minutes: line.budget for line in done}.items())
    with style():
        figure = Figure(figsize=(12, 7.2), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True)
        for axes, (name, title) in zip(panels.flat, HEADLINES.items(), strict=True):
            _panel(axes, comparison, done, name, look)
            axes.set_ylabel(title + (" (more is better)" if name in MORE_IS_BETTER else ""))
        for axes in panels[1]:
            axes.set_xlabel("time per shower [ms]")
        marks = [
            Line2D([], [], color=colour, marker=marker, lw=0, label=name) for name, (colour, marker) in look.items()
        ]
        if len(budgets) > 1:
            for minutes, text in budgets:
                filled = "k" if minutes == budgets[-1][0] else "w"
                marks.append(Line2D([], [], color="k", marker="o", mfc=filled, lw=0, label=text))
        marks.append(Line2D([], [], color=BAND, ls="--", label="Geant4 itself"))
        marks.append(Line2D([], [], color="k", lw=0.8, ls=":", label="Pareto front"))
        figure.legend(handles=marks, loc="outside upper center", ncols=6)
    return figure


def _panel(
    axes: Axes, comparison: FamilyComparison, done: list[FamilyLine], name: str, look: dict[str, tuple[str, str]]
) -> None:
    most = max((line.minutes for line in done), default=0.0)
    for family, (colour, marker) in look.items():
        own = sorted((line for line in done if line.family == family), key=lambda line: line.minutes)
        times = [line.figures["ms_per_shower"].mean for line in own]
        axes.plot(times, [line.figures[name].mean for line in own], color=colour, lw=1)
        for line, time in zip(own, times, strict=True):
            found, filled = line.figures[name], colour if line.minutes == most else "w"
            axes.plot(line.figures["ms_per_shower"].values, found.values, ".", color=colour, alpha=0.35, ms=3)
            axes.errorbar(time, found.mean, line.error(name), color=colour, marker=marker, mfc=filled, capsize=2)
    front = comparison.front(name)
    axes.step(
        [line.figures["ms_per_shower"].mean for line in front], [line.figures[name].mean for line in front],
        where="post", color="k", lw=0.8, ls=":", zorder=0,
    )  # fmt: skip
    if done:
        axes.axhline(comparison.floor(name), color=BAND, ls="--", zorder=0)
        axes.set_xscale("log")
        number_decades(axes.xaxis)
        if name in _LOGARITHMIC:
            axes.set_yscale("log")
            number_decades(axes.yaxis)


def comparison_html(comparison: FamilyComparison) -> str:
    """Return table and plot as one page that needs no other file."""
    heads, rows = comparison_rows(comparison)
    table = "<tr>" + "".join(f"<th>{escape(head)}</th>" for head in heads) + "</tr>\n"
    for row in rows:
        table += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n"
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in comparison_notes(comparison))
    content = io.BytesIO()
    draw(comparison).savefig(content, format="png", dpi=DPI)
    note = f'<h1>Families compared</h1>\n<table border="1" cellpadding="4">\n{table}</table>\n{notes}'
    return pictures_html("Families compared", {"figures against time": content.getvalue()}, note=note)
