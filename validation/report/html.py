"""The validation report: one HTML file with everything inside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from caloforge.files import atomic_file
from caloforge.geometry import Geometry
from caloforge.validation.figures.physics import N_BOOTSTRAPS
from caloforge.validation.judgement import Judgement
from caloforge.validation.observables.conditions import CONDITIONS
from caloforge.validation.plots.events import MOST_POINTS, Event
from caloforge.validation.plots.style import REFERENCE
from caloforge.validation.plots.write import Plot
from caloforge.validation.report.leaderboard import leaderboard
from caloforge.validation.report.page import number, picture, render
from caloforge.validation.report.verdict import NOTABLE
from caloforge.validation.row import HEADLINE

GROUPS = (
    "Profiles",
    *(f"In bins of {condition.title.lower()}" for condition in CONDITIONS.values()),
    "Energy",
    "Shape",
    "Moments",
    "Voxels",
    "Neighbours",
    "Layers",
    "Average shower",
    "Single showers",
    "Classifier",
    "Likelihood",
)
"""Headings of the plots in their order; a group that is not here comes last."""


def write_report(
    metrics: Judgement,
    plots: Sequence[Plot],
    showers: Mapping[str, Sequence[Event]],
    geometry: Geometry,
    path: Path,
) -> None:
    """Write the report as one HTML file that needs nothing but itself.

    It works without scripts, as in a sandboxed frame; with them, single showers can be turned.

    Args:
        metrics: the judgement.
        plots: PNG files to embed.
        showers: sample name to its single showers, as many of each sample.
        geometry: their mesh.
        path: where it goes.
    """
    board = leaderboard(metrics)
    html = render(
        "report.html.j2",
        metrics=metrics,
        board=board,
        headline=headline(metrics),
        winner=board.winner,
        distributions=[metrics.table(kind) for kind in metrics.distribution_metrics],
        notable=NOTABLE,
        n_bootstraps=N_BOOTSTRAPS,
        groups=_grouped(plots, list(metrics.generators)),
        showers=Markup(_in_space(showers, geometry)),
        most_points=MOST_POINTS,
        source=str(metrics.source or ""),
        provenance=json.dumps(metrics.provenance, indent=2),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def headline(metrics: Judgement) -> str:
    """Return the verdict about the best generator, and its figures."""
    winner = leaderboard(metrics).winner
    labels = (("auc", "classifier AUC"), ("fpd", "FPD"), ("mean_separation", "mean separation power"))
    rows = [(metrics.row(winner, HEADLINE, key), label) for key, label in labels]
    figures = ", ".join(
        f"{label} {number(row.value)} (Geant4 against itself: {number(row.floor)})" for row, label in rows
    )
    return f"{metrics.verdict.sentence} {figures[0].upper()}{figures[1:]}."


def _grouped(plots: Sequence[Plot], names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the plots as data URIs under their headings."""
    groups: dict[str, list[dict[str, Any]]] = {group: [] for group in GROUPS}
    for plot in plots:
        entry = {
            "title": plot.title,
            "name": plot.path.stem,
            "alt": f"Plot: {plot.title}, of {REFERENCE} and {', '.join(names)}",
            "uri": picture(plot.path),
            "wide": plot.wide,
        }
        groups.setdefault(plot.group, []).append(entry)
    return {group: entries for group, entries in groups.items() if entries}


def _in_space(showers: Mapping[str, Sequence[Event]], geometry: Geometry) -> str:
    """Return the showers' points as JSON that can stand in a script element.

    A point is its layer, x and y in mm, and where the logarithm of its energy lies in the last three
    decades below the hottest voxel of all samples' showers of that energy.
    """
    first = next(iter(showers.values()))
    hottest = [
        max((float(row[i].points[0, 3]) for row in showers.values() if len(row[i].points)), default=1.0)
        for i in range(len(first))
    ]

    def shower(event: Event, highest: float) -> dict[str, Any]:
        heights = np.clip(1 + np.log10(event.points[:, 3] / highest) / 3, 0, 1)
        rows = zip(event.points.tolist(), heights.tolist(), strict=True)
        return {
            "energy": f"{event.incident_energy / 1000:.3g}",
            "points": [[int(layer), round(x, 1), round(y, 1), round(e, 2)] for (layer, x, y, _), e in rows],
        }

    content = {
        "layers": geometry.n_layers,
        "radius": geometry.radius,
        "energies": [f"{event.incident_energy / 1000:.3g}" for event in first],
        "samples": {
            name: [shower(event, highest) for event, highest in zip(row, hottest, strict=True)]
            for name, row in showers.items()
        },
    }
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")
