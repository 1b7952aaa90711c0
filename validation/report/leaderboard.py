"""Rank generators by a stated rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from scipy.stats import rankdata

from caloforge.errors import InputError
from caloforge.markdown import plain
from caloforge.source import Source
from caloforge.validation.judgement import Judgement
from caloforge.validation.row import HEADLINE, Row

RULE = (
    "Generators are ordered by the mean of three ranks: the distance of the classifier's AUC from 0.5, the FPD, "
    "and the mean separation power; smaller is better in each. Ties go to the lower FPD, then to the faster generator."
)

FIGURES = ("auc", "fpd", "mean_separation", "mean_wasserstein")
"""What the leaderboard shows; the first three decide."""


class NoGenerator(RuntimeError):
    """All families have failed; the message says of what."""


def leaderboard(metrics: Judgement) -> dict[str, Any]:
    """Rank the generators of a judgement.

    Args:
        metrics: the judgement, as :func:`caloforge.validation.validate.validate` returns it.

    Returns:
        The content of ``leaderboard.json``: ``rule`` in words, ``winner``, ``source`` of the showers (None if it is
        not known), ``rows``, best first: generator, mean rank, headline metrics with their floors, milliseconds per
        shower if known; ``failed``: generator to why there is none; and ``notes`` of what generators share.

    Raises:
        InputError: there is no generator.
    """
    rows = ranked(metrics.rows, {name: one.milliseconds_per_shower for name, one in metrics.generators.items()})
    return {
        "rule": RULE,
        "winner": rows[0]["generator"],
        "source": None if metrics.source is None else metrics.source.as_dict(),
        "rows": rows,
        "failed": dict(metrics.failed),
        "notes": list(metrics.notes),
    }


def ranked(rows: Iterable[Row], milliseconds: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Return the leaderboard's rows, the best first.

    Args:
        rows: the figures of all generators.
        milliseconds: generator to its time per shower, None if it is not known.

    Raises:
        InputError: there is no generator, or one without the figures that decide.
    """
    if not milliseconds:
        raise InputError("leaderboard: the metrics hold no generator")
    found = {(row.generator, row.name): row for row in rows if row.kind == HEADLINE and row.value is not None}
    if missing := [f"{key} of {name}" for name in milliseconds for key in FIGURES if (name, key) not in found]:
        raise InputError(f"leaderboard: the metrics hold no {missing[0]}")
    values = {key: [found[name, key].value or 0.0 for name in milliseconds] for key in FIGURES}
    criteria = [[abs(auc - 0.5) for auc in values["auc"]], values["fpd"], values["mean_separation"]]
    mean_ranks = rankdata(criteria, method="min", axis=1).mean(axis=0)
    board = []
    for name, rank in zip(milliseconds, mean_ranks.tolist(), strict=True):
        entry: dict[str, Any] = {"generator": name, "mean_rank": rank}
        for key in FIGURES:
            row = found[name, key]
            entry |= {key: row.value, f"{key}_error": row.error, f"{key}_floor": row.floor}
        board.append({**entry, "milliseconds_per_shower": milliseconds[name]})
    return sorted(board, key=_order)


def leaderboard_markdown(board: Mapping[str, Any]) -> str:
    """Return the leaderboard as a Markdown table, the best first and the floors last; few columns fit a side panel."""
    lines = ["| generator | AUC | FPD | mean separation | ms per shower |", "|---|---|---|---|---|"]
    keys = FIGURES[:3]
    for row in board["rows"]:
        metrics = " | ".join(f"{row[key]:.3g} ± {row[f'{key}_error']:.1g}" for key in keys)
        speed = row["milliseconds_per_shower"]
        speed_text = "-" if speed is None else f"{speed:.3g}"
        lines.append(f"| {plain(row['generator'])} | {metrics} | {speed_text} |")
    floors = " | ".join(f"{board['rows'][0][f'{key}_floor']:.3g}" for key in keys)
    lines.append(f"| *Geant4 itself* | {floors} | - |")
    failed = [f"No generator **{plain(name)}**: {plain(reason)}" for name, reason in board["failed"].items()]
    data = [f"Data: {plain(Source.of(board['source']))}"] if board.get("source") else []
    return "\n\n".join(["\n".join(lines), *failed, *map(plain, board["notes"]), board["rule"], *data]) + "\n"


def none_is_left(failed: Mapping[str, str]) -> NoGenerator:
    """Return the error of a run in which every family has failed."""
    return NoGenerator("no generator is left to judge: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))


def _order(row: Mapping[str, Any]) -> tuple[float, float, float]:
    speed = row["milliseconds_per_shower"]
    return row["mean_rank"], row["fpd"], math.inf if speed is None else speed
