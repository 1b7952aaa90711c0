"""Plots of a validation: the reference, each generator over it, and their ratio."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from caloforge.validation.histogram import bin_edges
from caloforge.validation.observables import OBSERVABLES, Observable, response
from caloforge.validation.summary import Profile, Summary

FloatArray = NDArray[np.float64]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008)."""

GREY, EDGE = "#d4d4d8", "#52525b"
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


def write_plots(
    reference: Summary, generated: Mapping[str, Summary], metrics: Mapping[str, Any], folder: Path
) -> list[Plot]:
    """Draw everything and write it as PNG files.

    Args:
        reference: the Geant4 sample.
        generated: generator name to its sample.
        metrics: content of ``metrics.json``.
        folder: where the files go; it is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def keep(figure: Figure, name: str, title: str, group: str) -> None:
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=DPI)
        written.append(Plot(path, title, group))

    note = f"{reference.geometry.name}, N = {len(reference)}"
    keep(response_curves(reference, generated, note), "response_energy", "Response against energy", "Energy")
    keep(resolution_curves(reference, generated, note), "resolution_energy", "Resolution against energy", "Energy")
    for log in (False, True):
        scale, suffix = (" (log)", "_log") if log else ("", "")
        figure = longitudinal_profile(reference, generated, note, log=log)
        keep(figure, f"longitudinal_profile{suffix}", f"Mean longitudinal profile{scale}", "Profiles")
    keep(lateral_profile(reference, generated, note), "lateral_profile", "Mean lateral profile", "Profiles")
    keep(voxel_spectrum(reference, generated, note), "voxel_spectrum", "Voxel energy spectrum", "Voxels")
    for name, observable in OBSERVABLES.items():
        if observable.columns(reference).shape[1] > 0:
            group = _group(name)
            keep(distribution(observable, reference, generated, note), name, _plain_title(name), group)
    keep(images(reference, generated), "images", "Average shower", "Average shower")
    rocs = {name: (values["roc"], values["auc"]["value"]) for name, values in metrics["generators"].items()}
    keep(roc_curves(rocs, note), "roc", "Classifier on high-level features", "Classifier")
    return written
