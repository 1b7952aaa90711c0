"""Rank generators by a stated rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field
from scipy.stats import rankdata

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.markdown import plain
from caloforge.source import Source
from caloforge.validation.judgement import Judgement, ratio
from caloforge.validation.row import HEADLINE, Number, Row

RULE = (
    "Generators are ordered by the mean of three ranks: the distance of the classifier's AUC from 0.5, the FPD, "
    "and the mean separation power; smaller is better in each. Ties go to the lower FPD, then to the faster generator."
)

FIGURES = ("auc", "fpd", "mean_separation", "mean_wasserstein")
"""What the leaderboard shows; the first three decide."""


class Standing(Config):
    """A generator's row of the leaderboard: the figures of :data:`FIGURES`, each with its error and its floor.

    Attributes:
        generator: its name.
        mean_rank: mean of its ranks by the figures that decide; 1 is the best in all of them.
        milliseconds_per_shower: None if it is not known.
        variant: what was timed (library, precision, threads), None if it is not known.
    """

    generator: str
    mean_rank: Number
    auc: Number
    auc_error: Number
    auc_floor: Number
    fpd: Number
    fpd_error: Number
    fpd_floor: Number
    mean_separation: Number
    mean_separation_error: Number
    mean_separation_floor: Number
    mean_wasserstein: Number
    mean_wasserstein_error: Number
    mean_wasserstein_floor: Number
    milliseconds_per_shower: Number | None
    variant: str | None = None

    def figure(self, key: str) -> tuple[float, float, float]:
        """Return a figure of :data:`FIGURES`, its error and its floor."""
        return getattr(self, key), getattr(self, f"{key}_error"), getattr(self, f"{key}_floor")


class Leaderboard(Config):
    """The content of ``leaderboard.json``.

    Attributes:
        rule: by which generators are ranked, in words.
        winner: name of the best.
        source: where the Geant4 showers came from, None if it is not known.
        geant4_milliseconds_per_shower: CPU time of the full simulation of the same showers, None if it is not known.
        rows: the generators, the best first.
        failed: generators that there is nothing of to judge, and why.
        notes: what generators have in common.
    """

    rule: str
    winner: str
    source: Source | None = None
    geant4_milliseconds_per_shower: Number | None = None
    rows: tuple[Standing, ...]
    failed: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write ``leaderboard.json``."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ``leaderboard.json``.

        Raises:
            InputError: it is none.
        """
        return cls.parse(read_json(path), where=str(path))


class NoGenerator(RuntimeError):
    """All families have failed; the message says of what."""


def leaderboard(metrics: Judgement) -> Leaderboard:
    """Rank the generators of a judgement.

    Args:
        metrics: the judgement, as :func:`caloforge.validation.validate.validate` returns it.

    Raises:
        InputError: there is no generator.
    """
    rows = ranked(metrics.rows, {name: one.milliseconds_per_shower for name, one in metrics.generators.items()})
    rows = tuple(row.model_copy(update={"variant": metrics.generators[row.generator].variant}) for row in rows)
    return Leaderboard(
        rule=RULE, winner=rows[0].generator, source=metrics.source, rows=rows, failed=metrics.failed,
        notes=metrics.notes, geant4_milliseconds_per_shower=metrics.reference.milliseconds_per_shower,
    )  # fmt: skip


def ranked(rows: Iterable[Row], milliseconds: Mapping[str, float | None]) -> tuple[Standing, ...]:
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
        board.append(Standing.model_validate({**entry, "milliseconds_per_shower": milliseconds[name]}))
    return tuple(sorted(board, key=_order))


def leaderboard_markdown(board: Leaderboard) -> str:
    """Return the leaderboard as a Markdown table, the best first and the floors last; few columns fit a side panel."""
    lines = ["| generator | AUC | FPD | mean separation | ms per shower |", "|---|---|---|---|---|"]
    keys = FIGURES[:3]
    for row in board.rows:
        metrics = " | ".join(f"{value:.3g} ± {error:.1g}" for value, error, _ in map(row.figure, keys))
        faster = ratio(board.geant4_milliseconds_per_shower, row.milliseconds_per_shower)
        speed = _short(row.milliseconds_per_shower) + (f" ({faster:,.0f} x faster)" if faster and faster >= 10 else "")
        if row.variant and row.milliseconds_per_shower is not None:
            speed += f", {plain(row.variant)}"
        lines.append(f"| {plain(row.generator)} | {metrics} | {speed} |")
    floors = " | ".join(f"{board.rows[0].figure(key)[2]:.3g}" for key in keys)
    lines.append(f"| *Geant4 itself* | {floors} | {_short(board.geant4_milliseconds_per_shower)} |")
    failed = [f"No generator **{plain(name)}**: {plain(reason)}" for name, reason in board.failed.items()]
    data = [] if board.source is None else [f"Data: {plain(board.source)}"]
    return "\n\n".join(["\n".join(lines), *failed, *map(plain, board.notes), board.rule, *data]) + "\n"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def none_is_left(failed: Mapping[str, str]) -> NoGenerator:
    """Return the error of a run in which every family has failed."""
    return NoGenerator("no generator is left to judge: " + "; ".join(f"{name}: {why}" for name, why in failed.items()))


def _order(row: Standing) -> tuple[float, float, float]:
    speed = row.milliseconds_per_shower
    return row.mean_rank, row.fpd, math.inf if speed is None else speed
