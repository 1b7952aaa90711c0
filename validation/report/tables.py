"""The tables of a validation as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from caloforge.markdown import cell, plain
from caloforge.validation.judgement import Judgement
from caloforge.validation.report.leaderboard import leaderboard, leaderboard_markdown
from caloforge.validation.row import IN_BINS, PHYSICS, Row

_COMPARED = 3
"""Generators beside each other in Markdown; more do not fit a side panel."""

COLUMNS = ("generator", "kind", "name", "title", "value", "error", "floor", "floor_error", "sigma", "n")


def tables_csv(metrics: Judgement) -> str:
    """Return every listed figure as a row, with its floor, errors and number of showers.

    The kind is ``headline``, ``physics``, ``in_bins`` or a distribution metric. A physics figure's
    floor is the value of Geant4 itself; a figure in bins has a row for each bin, named with the
    bin's edges.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for generator in metrics.generators:
        for row in metrics.of(generator):
            if row.listed:
                lines = _bins(row) if row.kind == IN_BINS else [_line(row)]
                writer.writerows([cell(value) for value in line] for line in lines)
    return text.getvalue()


def _line(row: Row) -> list[Any]:
    floor = (row.floor, row.floor_error) if row.reference is None else (row.reference, row.reference_error)
    return [row.generator, row.kind, row.name, row.label, row.value, row.error, *floor, row.sigma, row.n]


def _bins(row: Row) -> Iterator[list[Any]]:
    assert row.parts is not None
    parts = row.parts
    for where, *numbers in zip(
        parts.where, parts.value, parts.error, parts.reference, parts.reference_error, strict=True
    ):
        yield [row.generator, row.kind, row.name, f"{row.label}, {where}", *numbers, None, None]


def summary_markdown(metrics: Judgement) -> str:
    """Return the verdicts, the leaderboard and the physics figures of the best as Markdown."""
    board = leaderboard(metrics)
    names = [row.generator for row in board.rows][:_COMPARED]
    lines = ["# Generated showers against Geant4", "", f"**{plain(metrics.verdict.sentence)}**", ""]
    lines += [*(f"- {plain(generator.verdict.sentence)}" for generator in metrics.generators.values()), ""]
    if metrics.verdict.power:
        lines += [metrics.verdict.power, ""]
    lines += [f"Geometry {plain(metrics.geometry)}, {metrics.n} showers of each, protocol {metrics.protocol.name}."]
    lines += ["", leaderboard_markdown(board), "", "## Physics figures", ""]
    if len(board.rows) > _COMPARED:
        lines += [f"Of the best {_COMPARED} generators; report.html and tables.csv have all.", ""]
    lines += [f"| figure | Geant4 | {' | '.join(map(plain, names))} |", "|---" * (len(names) + 2) + "|"]
    for rows in metrics.table(PHYSICS).values():
        first = rows[names[0]]
        cells = [_cell(first.reference, first.reference_error), *(_cell(rows[n].value, rows[n].error) for n in names)]
        lines.append(f"| {first.label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", metrics.verdict.rule, ""])


def _cell(value: float | None, error: float | None) -> str:
    return "-" if value is None else f"{value:.4g} ± {error or 0.0:.1g}"
