"""Train the layer energies once, for all families that draw them first."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from caloforge.alone import alone
from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.conditions import ConditionEncoder
from caloforge.models.energies import save_energies, state_digest
from caloforge.models.family import Stage
from caloforge.models.layer_energies import LayerEnergies, layer_batch
from caloforge.models.presets import energies_training
from caloforge.models.training.data import TrainingData
from caloforge.models.training.fabric import open_fabric
from caloforge.models.training.record import training_figures
from caloforge.models.training.train import (
    ENDING_SECONDS,
    check_minutes,
    data_spec,
    fingerprint,
    fit_stages,
    remove_empty,
    training_record,
)
from caloforge.outputs import check_folder
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.provenance import provenance
from caloforge.result_kinds import ENERGIES
from caloforge.steps import step


def train_energies(
    showers: Path,
    prepared: Path,
    output: Path,
    *,
    preset: str = "demo",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    overwrite: bool = False,
) -> dict[str, float]:
    """Train the layer energies alone; a killed training goes on when it is called again.

    The weights are those that a family trained within itself would have, with the same preset, seed and
    steps.

    Args:
        showers: the shower file that was prepared.
        prepared: folder of the prepared data.
        output: folder to write, for ``TrainingRequest.energies``.
        preset: name of the preset.
        overrides: changes to the preset's ``energies``, e.g. ``{"steps": 1000}``.
        seed: of the first weights and all that follows.
        max_minutes: limit on the training.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Returns:
        Finite numbers: last loss, steps, seconds, parameters.

    Raises:
        InputError: unknown preset or override, or data that do not fit.
        TrainingDiverged: the training diverged.
        TrainingInterrupted: SIGTERM came; the state is saved.
    """
    training = energies_training(preset, overrides)
    check_minutes(max_minutes)
    target = check_folder(output, ENERGIES, inputs=[showers, prepared], overwrite=overwrite)
    with step("train layer energies"), ExitStack() as stack:
        started = time.monotonic()
        found = load_prepared(prepared)
        split = open_split(showers, prepared, "train")
        fabric = open_fabric()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            spec = data_spec(found, transforms=True)
            assert spec.transforms is not None
            transforms, encoder = spec.transforms, ConditionEncoder(spec.domains)
            owner = nn.ModuleDict({"energies": LayerEnergies(spec.geometry.n_layers, encoder.n_features)})
        owner.to(fabric.device)
        for transform in transforms:
            transform.to(fabric.device)

        def batch(data: TrainingData, number: int, size: int, draws: Draws) -> Batch:
            return layer_batch(data.batch(number, size, draws), transforms, encoder, draws)

        root = target.parent / f".{target.name}.checkpoints"
        if fabric.is_global_zero:
            stack.enter_context(alone(root, shown=output, patience=ENDING_SECONDS))
        folder = root / fingerprint([training.model_dump(), seed], prepared)
        folder.mkdir(parents=True, exist_ok=True)
        data = TrainingData(split, found, folder, seed=seed, fabric=fabric)
        limit = None if max_minutes is None else 60 * max_minutes - (time.monotonic() - started)
        stages = fit_stages(
            owner, {"energies": Stage(training, batch, title=ENERGIES.name)}, data, folder, fabric,
            name="all families", seed=seed, limit=fabric.broadcast(limit),
        )  # fmt: skip
        energies = owner["energies"]
        del data  # no process may have files open in the folder that is removed below
        fabric.barrier()
        record = {
            "config": training.model_dump() | {"preset": preset},
            "max_minutes": max_minutes,
            "energies": {"sha256": state_digest(energies)},
            **training_record(energies, stages, fabric),
            "provenance": provenance(
                inputs={"showers": showers, "transform": prepared / "transform.safetensors"}, seed=seed
            ),
        }
        if fabric.is_global_zero:
            save_energies(output, energies, found, record=record, overwrite=overwrite)
            shutil.rmtree(folder)
            remove_empty(root)
        fabric.barrier()
    return training_figures(record)
