"""The ROC curve of a classifier that tells generated showers from Geant4's."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from caloforge.validation.judgement import RocCurve
from caloforge.validation.plots.style import LINE, colours, escaped, head
from caloforge.validation.row import Row

Rocs = Mapping[str, tuple[RocCurve, Row]]


def roc_curves(rocs: Rocs, note: str) -> Figure:
    """Draw the ROC curve for each generator; the diagonal is a perfect generator.

    Args:
        rocs: generator name to its curve and the row of the area under it.
        note: what the showers are.
    """
    figure = Figure(figsize=(5.6, 5.0))
    axes = figure.add_axes((0.145, 0.115, 0.825, 0.81))
    axes.plot([0, 1], [0, 1], color=LINE, linestyle="--", linewidth=1, label="indistinguishable (AUC 0.5)")
    for (name, (roc, row)), colour in zip(rocs.items(), colours(len(rocs)), strict=True):
        axes.plot(roc.fpr, roc.tpr, color=colour, linewidth=1.6, label=f"{escaped(name)} (AUC {row.value:.3f})")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Generated showers taken for Geant4", loc="right")
    axes.set_ylabel("Geant4 showers recognised", loc="top")
    axes.legend(loc="lower right")
    head(axes, note)
    return figure
