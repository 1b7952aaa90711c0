"""Quality against the number of steps, a line for each sampler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from caloforge.validation.plots.style import BAND, COLOURS, DPI, escaped, head, number_decades, style

if TYPE_CHECKING:
    from caloforge.tuning.inference.few_steps import FewSteps

_FIGURES = {"fpd": "Fréchet physics distance to Geant4", "auc": "AUC against Geant4"}


def draw(found: FewSteps, path: Path) -> None:
    """Draw FPD and AUC with their errors against the steps as a PNG; dashed is Geant4 itself."""
    labels = list(dict.fromkeys(way.label for way in found.ways))
    with style():
        figure = Figure(figsize=(9.6, 4.4), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(1, 2), _FIGURES.items(), strict=True):
            for label, colour, marker in zip(labels, COLOURS * len(labels), "osD^vP*X" * len(labels), strict=False):
                ways = sorted((way for way in found.ways if way.label == label), key=lambda way: way.steps)
                values = [getattr(way.fidelity, name) for way in ways]
                axes.errorbar(
                    [way.steps for way in ways], [one.value for one in values], [one.error for one in values],
                    color=colour, marker=marker, capsize=2, label=escaped(label),
                )  # fmt: skip
            axes.axhline(getattr(found.floor, name).value, color=BAND, ls="--")
            axes.set_xscale("log")
            if name == "fpd":
                axes.set_yscale("log")
                number_decades(axes.yaxis)
            number_decades(axes.xaxis)
            axes.set_xlabel("steps")
            axes.set_ylabel(title)
            head(axes, f"{found.family}, {found.showers} showers", package="caloforge" if name == "fpd" else "")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
        figure.savefig(path, dpi=DPI, format="png")
