"""The tables of a validation as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from caloforge.validation.leaderboard import leaderboard, leaderboard_markdown
from caloforge.validation.metrics import DISTRIBUTION_METRICS, headline_labels
from caloforge.validation.verdict import title_of

_COMPARED = 3
"""Generators beside each other in Markdown; more do not fit a side panel."""

COLUMNS = ("generator", "kind", "name", "title", "value", "error", "floor", "floor_error", "sigma", "n")


def tables_csv(metrics: Mapping[str, Any]) -> str:
    """Return every figure of a ``metrics.json`` as a row, with its floor, errors and number of showers.

    The kind is ``headline``, ``physics``, ``in_bins`` or a distribution metric. A physics figure's
    floor is the value of Geant4 itself; a figure in bins has a row for each bin, named with the
    bin's edges.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(metrics):
        writer.writerow(row)
    return text.getvalue()


def _rows(metrics: Mapping[str, Any]) -> Iterator[list[Any]]:
    for generator, record in metrics["generators"].items():
        for name, label in headline_labels(record).items():
            yield [generator, "headline", name, label, *_numbers(record[name]), record[name]["n"]]
        for metric in DISTRIBUTION_METRICS:
            for name, entry in record[metric].items():
                yield [generator, metric, name, title_of(name), *_numbers(entry), entry["n"]]
        for name, figure in metrics["physics"].items():
            entry = figure["generators"][generator]
            unit = f" [{figure['unit']}]" if figure["unit"] else ""
            numbers = [entry["value"], entry["error"], figure["value"], figure["error"], entry["sigma"]]
            yield [generator, "physics", name, figure["title"] + unit, *numbers, metrics["n"]]
        for table in metrics["in_bins"].values():
            for name, figure in table["figures"].items():
                yield from _bins(generator, name, figure, table)


def _bins(generator: str, name: str, figure: Mapping[str, Any], table: Mapping[str, Any]) -> Iterator[list[Any]]:
    entry, edges = figure["generators"][generator], table["edges"]
    columns = (entry["value"], entry["error"], figure["value"], figure["error"])
    unit = f" [{figure['unit']}]" if figure["unit"] else ""
    for i, numbers in enumerate(zip(*columns, strict=True)):
        where = f"{table['title'].lower()} {edges[i]:.4g} to {edges[i + 1]:.4g} {table['unit']}"
        yield [generator, "in_bins", name, f"{figure['title']}{unit}, {where}", *numbers, None]


def _numbers(entry: Mapping[str, float]) -> list[float]:
    return [entry[key] for key in ("value", "error", "floor", "floor_error", "sigma")]


def summary_markdown(metrics: Mapping[str, Any]) -> str:
    """Return the verdicts, the leaderboard and the physics figures of the best as Markdown."""
    board = leaderboard(metrics)
    names = [row["generator"] for row in board["rows"]][:_COMPARED]
    lines = ["# Generated showers against Geant4", "", f"**{metrics['verdict']['sentence']}**", ""]
    lines += [*(f"- {record['verdict']['sentence']}" for record in metrics["generators"].values()), ""]
    lines += [
        f"Geometry {metrics['geometry']}, {metrics['n']} showers of each, protocol {metrics['protocol']['name']}."
    ]
    lines += ["", leaderboard_markdown(board), "", "## Physics figures", ""]
    if len(board["rows"]) > _COMPARED:
        lines += [f"Of the best {_COMPARED} generators; report.html and tables.csv have all.", ""]
    lines += [f"| figure | Geant4 | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for figure in metrics["physics"].values():
        unit = f" [{figure['unit']}]" if figure["unit"] else ""
        cells = [_cell(figure), *(_cell(figure["generators"][name]) for name in names)]
        lines.append(f"| {figure['title']}{unit} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", metrics["verdict"]["rule"], ""])


def _cell(entry: Mapping[str, Any]) -> str:
    return "-" if entry["value"] is None else f"{entry['value']:.4g} ± {entry['error']:.1g}"
