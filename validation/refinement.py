"""Refinement of a fast simulation against the full one: weights, a corrector, and a report before and after."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.markdown import plain
from caloforge.models.refine import refine
from caloforge.models.refiner_bundle import load_refiner
from caloforge.models.training.refiner import refiner_config, train_refiner
from caloforge.outputs import own_folder, put_files
from caloforge.preprocessing.prepare import FEWEST_JUDGED, prepare
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.result_kinds import REFINEMENT
from caloforge.showers import Showers
from caloforge.steps import step
from caloforge.temporary import scratch_folder
from caloforge.validation.judgement import Judgement
from caloforge.validation.metrics.headlines import headline_labels
from caloforge.validation.plots.style import BAND, COLOURS, DPI, style
from caloforge.validation.row import HEADLINE
from caloforge.validation.validate import validate
from caloforge.validation.weights import LARGEST, Weights, classifier_weights, write_weights

logger = logging.getLogger(__name__)

FAST, REFINED = "fast", "refined"
HELD_OUT = 0.2
"""Share of the fast showers that the corrector is not trained on and is judged by."""


@dataclass(frozen=True)
class Refinement:
    """What a refinement found.

    Attributes:
        judgement: of held-out fast showers before and after.
        weights: of all fast showers.
    """

    judgement: Judgement
    weights: Weights

    def gained(self, name: str) -> float:
        """Return by which share of its distance from the floor a headline metric came nearer to it, NaN without any."""
        before, after = (self.judgement.row(one, HEADLINE, name) for one in (FAST, REFINED))
        if before.value is None or after.value is None or before.floor is None or before.value == before.floor:
            return math.nan
        return 1 - (after.value - before.floor) / (before.value - before.floor)


def refine_against(
    full: Showers,
    fast: Showers,
    output: Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Refinement:
    """Learn how a fast simulation differs from the full one, and correct its showers.

    A fifth of the fast showers is held out, and the full ones are split as for generators: the corrector sees none of what
    it is judged by. Stopped work goes on when it is called again.

    Args:
        full: showers of the full simulation.
        fast: those of the fast one, with like conditions; row by row the same or others.
        output: folder: ``refiner/``, ``refined.hdf5`` (all fast showers, corrected), ``weights.hdf5`` (a weight for each of
            them), ``report/`` (before and after), ``refinement.md``, ``.json``, ``.png``.
        overrides: changes to :class:`caloforge.models.refiner.RefinerConfig`.
        max_minutes: limit on the training of the corrector.
        seed: of all that is random.
        overwrite: see :func:`caloforge.outputs.own_folder`.

    Raises:
        InputError: the showers do not fit each other, are the same, or there are too few.
    """
    refiner_config(overrides)
    if said := full.geometry.difference(fast.geometry):
        raise InputError(f"{fast.path}: its mesh is not that of the full simulation {full.path}: {said}")
    if (of_fast := sha256(fast.path)) == sha256(full.path):
        raise InputError(
            f"{fast.path}: holds the showers of the full simulation themselves; there is nothing to correct"
        )
    n = int(HELD_OUT * len(fast))
    if n < FEWEST_JUDGED:
        raise InputError(
            f"{fast.path}: {len(fast)} showers; a refinement needs {math.ceil(FEWEST_JUDGED / HELD_OUT)} or more"
        )
    order = np.random.default_rng(seed).permutation(len(fast))
    held_out, others = np.sort(order[:n]), np.sort(order[n:])
    inputs = [full.path, fast.path]
    with step("refine"), own_folder(output, REFINEMENT, inputs=inputs, overwrite=overwrite):
        prepared = output / "prepared"
        if not prepared.exists():
            prepare(full, prepared, seed=seed)
        threshold = load_prepared(prepared).threshold
        made = {"seed": seed, "overrides": dict(overrides or {}), "max_minutes": max_minutes, "fast": of_fast}
        _train_once(full.path, prepared, fast.select(others), output, made)
        refined = output / "refined.hdf5"
        with scratch_folder(output) as scratch:
            refine(output / "refiner", fast, scratch / "refined.hdf5", seed=seed)
            with put_files(output, REFINEMENT) as folder:
                (scratch / "refined.hdf5").replace(folder / "refined.hdf5")
        logger.info("weights of %d fast showers", len(fast))
        weights = classifier_weights(open_split(full.path, prepared, "train"), fast, threshold=threshold, seed=seed)
        after = Showers(refined, fast.geometry, fast.attributes, np.arange(len(fast)))
        judgement = validate(
            open_split(full.path, prepared, "test"),
            {FAST: fast.select(held_out), REFINED: after.select(held_out)},
            output / "report", floor=open_split(full.path, prepared, "validation"), seed=seed, overwrite=True,
        )  # fmt: skip
        found = Refinement(judgement, weights)
        with put_files(output, REFINEMENT) as folder:
            write_weights(weights, fast, folder / "weights.hdf5", attributes={"file_sha256": made["fast"]})
            write_json(folder / "refinement.json", as_dict(found))
            (folder / "refinement.md").write_text(refinement_markdown(found), encoding="utf-8")
            draw(weights).savefig(folder / "refinement.png", dpi=DPI)
    return found


def _train_once(full: Path, prepared: Path, fast: Showers, output: Path, made: Mapping[str, Any]) -> None:
    """Train the corrector unless an earlier attempt did, with the same settings."""
    note = output / "refiner" / "training.json"
    if note.is_file():
        load_refiner(output / "refiner")
        record = read_json(note)
        there = (record["provenance"]["seed"], record["config"], record["max_minutes"])
        config = refiner_config(made["overrides"]).model_dump(mode="json")
        same = record["provenance"]["inputs"]["fast"]["sha256"] == made["fast"]
        if there != (made["seed"], config, made["max_minutes"]) or not same:
            raise InputError(f"{output}: holds a refiner of other showers or settings; choose another output folder")
        return
    train_refiner(
        full, prepared, fast, output / "refiner",
        overrides=made["overrides"], seed=made["seed"], max_minutes=made["max_minutes"],
    )  # fmt: skip


def as_dict(found: Refinement) -> dict[str, Any]:
    """Return what JSON can hold: each headline metric before, after and of the floor, and the figures of the weights."""
    metrics = {}
    for name in _metrics(found.judgement):
        before, after = (found.judgement.row(one, HEADLINE, name) for one in (FAST, REFINED))
        gained = found.gained(name)
        metrics[name] = {
            "fast": before.value, "fast_error": before.error, "refined": after.value, "refined_error": after.error,
            "floor": before.floor, "gained": None if math.isnan(gained) else gained,
        }  # fmt: skip
    weights = found.weights
    calibration = {
        "predicted": weights.predicted.tolist(),
        "observed": weights.observed.tolist(),
        "observed_error": weights.observed_error.tolist(),
    }
    return {"n": found.judgement.n, "metrics": metrics, "weights": {**weights.figures(), "calibration": calibration}}


def refinement_markdown(found: Refinement) -> str:
    """Return the metrics before and after as a table, and what the weights are worth in sentences."""
    lines = ["| metric | fast | refined | Geant4 itself | distance gone |", "|---|---|---|---|---|"]
    for name, label in _metrics(found.judgement).items():
        before, after = (found.judgement.row(one, HEADLINE, name) for one in (FAST, REFINED))
        gained = found.gained(name)
        cells = [
            label, *(_with_error(row.value, row.error) for row in (before, after)),
            _with_error(before.floor, before.floor_error), "" if math.isnan(gained) else f"{100 * gained:.0f} %",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(plain, cells)) + " |")
    note = f"{found.judgement.n} held-out showers of each. A distance is that from the floor; more than 100 % is noise about it."
    return "\n".join([*lines, "", note, "", plain(weights_sentence(found.weights)), ""])


def weights_sentence(weights: Weights) -> str:
    """Return what the weights are worth, and what they cost."""
    n, effective = len(weights.values), weights.effective
    text = (
        f"Weights of the {n} fast showers count as {effective:.0f} showers without weights "
        f"({100 * effective / n:.0f} %); {int(weights.clipped.sum())} were clipped at {LARGEST:g}. Drawing each shower with a "
        f"chance in proportion to its weight would keep {100 * weights.kept:.1f} % of them: thinning throws away the more the "
        "worse the fast simulation is, and no weight makes a shower that it never draws. "
        f"The classifier's AUC is {weights.auc:.3f}, its chances are off by {100 * weights.calibration_error:.1f} points on "
        f"average; the mean separation of its features goes from {weights.separation:.3g} to {weights.separation_weighted:.3g}."
    )
    if effective < 0.1 * n:
        text += " So few effective showers make fluctuations of their own: use the refined showers and not the weights."
    return text


def draw(weights: Weights) -> Figure:
    """Draw the calibration of the classifier and the weights."""
    with style():
        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=BAND, ls="--")
        left.errorbar(weights.predicted, weights.observed, weights.observed_error, fmt="o", color=COLOURS[0], capsize=2)
        left.set_xlabel("predicted chance of a full shower")
        left.set_ylabel("share of full showers")
        right.hist(np.maximum(weights.values, 1e-3), np.geomspace(1e-3, LARGEST * 1.001, 50), color=COLOURS[0])
        right.set_xscale("log")
        right.set_yscale("log")
        right.set_xlabel("weight")
        right.set_ylabel("fast showers")
        right.set_title(f"effective: {100 * weights.effective / len(weights.values):.0f} %", fontsize=9)
    return figure


def _metrics(judgement: Judgement) -> dict[str, str]:
    return headline_labels(row.name for row in judgement.rows if row.generator == FAST and row.kind == HEADLINE)


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" + ("" if error is None else f" ± {error:.1g}")
