"""Rank generators by a stated rule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from scipy.stats import rankdata

from caloforge.errors import InputError
from caloforge.source import Source

RULE = (
    "Generators are ordered by the mean of three ranks: the distance of the classifier's AUC from 0.5, the FPD, "
    "and the mean separation power; smaller is better in each. Ties go to the lower FPD, then to the faster generator."
)


class NoGenerator(RuntimeError):
    """All families have failed; the message says of what."""


def leaderboard(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Rank the generators of a ``metrics.json``.

    Args:
        metrics: content of ``metrics.json`` as :func:`caloforge.validation.validate.validate` returns it.

    Returns:
        ``rule`` in words, ``winner``, ``source`` of the showers (None if it is not known), ``rows``,
        best first: generator, mean rank, headline metrics with their floors, milliseconds per shower if
        known; and ``failed``: generator to why there is none.

    Raises:
        InputError: there is no generator.
    """
    generators = metrics.get("generators") or {}
    if not generators:
        raise InputError("leaderboard: the metrics hold no generator")
    criteria = [
        [abs(g["auc"]["value"] - 0.5) for g in generators.values()],
        [g["fpd"]["value"] for g in generators.values()],
        [g["mean_separation"]["value"] for g in generators.values()],
    ]
    mean_ranks = rankdata(criteria, method="min", axis=1).mean(axis=0)
    rows = [_row(name, g, float(rank)) for (name, g), rank in zip(generators.items(), mean_ranks, strict=True)]
    rows.sort(key=_order)
    return {
        "rule": RULE,
        "winner": rows[0]["generator"],
        "source": metrics.get("source"),
        "rows": rows,
        "failed": dict(metrics.get("failed") or {}),
    }


def leaderboard_markdown(board: Mapping[str, Any]) -> str:
    """Return the leaderboard as a Markdown table, the best first and the floors last; few columns fit a side panel."""
    lines = ["| generator | AUC | FPD | mean separation | ms per shower |", "|---|---|---|---|---|"]
    keys = ("auc", "fpd", "mean_separation")
    for row in board["rows"]:
        metrics = " | ".join(f"{row[key]:.3g} ± {row[f'{key}_error']:.1g}" for key in keys)
        speed = row["milliseconds_per_shower"]
        speed_text = "-" if speed is None else f"{speed:.3g}"
        lines.append(f"| {row['generator']} | {metrics} | {speed_text} |")
    floors = " | ".join(f"{board['rows'][0][f'{key}_floor']:.3g}" for key in keys)
    lines.append(f"| *Geant4 itself* | {floors} | - |")
    failed = [f"No generator **{name}**: {reason}" for name, reason in board["failed"].items()]
    data = [f"Data: {Source.of(board['source'])}"] if board.get("source") else []
    return "\n\n".join(["\n".join(lines), *failed, board["rule"], *data]) + "\n"


def none_is_left(failed: Mapping[str, str]) -> NoGenerator:
    """Return the error of a run in which every family has failed."""
    return NoGenerator("no generator is left to judge: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))


def _row(name: str, generator: Mapping[str, Any], mean_rank: float) -> dict[str, Any]:
    row: dict[str, Any] = {"generator": name, "mean_rank": mean_rank}
    for key in ("auc", "fpd", "mean_separation", "mean_wasserstein"):
        row[key] = generator[key]["value"]
        row[f"{key}_error"] = generator[key]["error"]
        row[f"{key}_floor"] = generator[key]["floor"]
    row["milliseconds_per_shower"] = generator.get("milliseconds_per_shower")
    return row


def _order(row: Mapping[str, Any]) -> tuple[float, float, float]:
    speed = row["milliseconds_per_shower"]
    return row["mean_rank"], row["fpd"], math.inf if speed is None else speed
