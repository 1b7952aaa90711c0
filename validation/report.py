"""The validation report: one HTML file with everything inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from caloforge.files import atomic_file
from caloforge.validation.conditions import CONDITIONS
from caloforge.validation.leaderboard import leaderboard
from caloforge.validation.metrics import DISTRIBUTION_METRICS, headline_labels
from caloforge.validation.physics import N_BOOTSTRAPS
from caloforge.validation.plots import Plot
from caloforge.validation.verdict import NOTABLE, TITLES

GROUPS = (
    "Profiles",
    *(f"In bins of {condition.title.lower()}" for condition in CONDITIONS.values()),
    "Energy",
    "Shape",
    "Moments",
    "Voxels",
    "Layers",
    "Average shower",
    "Single showers",
    "Classifier",
)
"""Headings of the plots in their order; a group that is not here comes last."""


def write_report(metrics: Mapping[str, Any], plots: Sequence[Plot], path: Path) -> None:
    """Write the report as one HTML file that needs nothing but itself.

    Args:
        metrics: content of ``metrics.json``.
        plots: PNG files to embed.
        path: where it goes.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters.update(number=_number, uncertainty=_uncertainty)
    source = (files("caloforge.validation") / "templates" / "report.html.j2").read_text()
    board = leaderboard(metrics)
    html = environment.from_string(source).render(
        metrics=metrics,
        board=board,
        headline=headline(metrics),
        headline_labels=headline_labels(metrics["generators"][board["winner"]]),
        distribution_labels={name: metric.label for name, metric in DISTRIBUTION_METRICS.items()},
        titles=TITLES,
        notable=NOTABLE,
        n_bootstraps=N_BOOTSTRAPS,
        groups=_grouped(plots),
        provenance=json.dumps(metrics["provenance"], indent=2),
    )
    with atomic_file(path) as temporary:
        temporary.write_text(html)


def headline(metrics: Mapping[str, Any]) -> str:
    """Return the verdict about the best generator, and its figures."""
    board = leaderboard(metrics)
    best = metrics["generators"][board["winner"]]
    figures = ", ".join(
        f"{label} {_number(best[key]['value'])} (Geant4 against itself: {_number(best[key]['floor'])})"
        for key, label in (("auc", "classifier AUC"), ("fpd", "FPD"), ("mean_separation", "mean separation power"))
    )
    return f"{metrics['verdict']['sentence']} {figures[0].upper()}{figures[1:]}."


def _grouped(plots: Sequence[Plot]) -> dict[str, list[dict[str, str]]]:
    """Return the plots as data URIs under their headings."""
    groups: dict[str, list[dict[str, str]]] = {group: [] for group in GROUPS}
    for plot in plots:
        data = base64.b64encode(plot.path.read_bytes()).decode()
        entry = {"title": plot.title, "uri": f"data:image/png;base64,{data}"}
        groups.setdefault(plot.group, []).append(entry)
    return {group: entries for group, entries in groups.items() if entries}


def _number(value: float | None) -> str:
    """Format a number with three digits."""
    if value is None:
        return "-"
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def _uncertainty(value: float) -> str:
    """Format an error with two digits at most."""
    return f"{value:.1g}" if value == 0 or 1e-3 <= abs(value) < 10 else f"{value:.1e}"
