"""Train a student with few sampling steps from a teacher with many, and write its bundle."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from torch import nn

from caloforge.errors import InputError
from caloforge.files import read_json, sha256
from caloforge.models.bundle import TRANSFORM, bundle_folder, load_bundle, save_bundle
from caloforge.models.configuration import DistillSettings
from caloforge.models.family import Stage
from caloforge.models.few_steps.plan import plan
from caloforge.models.registries import DISTILLATIONS, FAMILIES
from caloforge.models.training.data import TrainingData
from caloforge.models.training.fabric import open_fabric
from caloforge.models.training.loop import Fit
from caloforge.models.training.record import training_figures
from caloforge.models.training.train import check_minutes, fingerprint, fit_stages, training_record
from caloforge.outputs import check_folder
from caloforge.preprocessing.prepared import Prepared, load_prepared, open_split
from caloforge.provenance import provenance
from caloforge.result_kinds import BUNDLE
from caloforge.steps import step

logger = logging.getLogger(__name__)


def train_student(
    teacher: Path,
    showers: Path,
    prepared: Path,
    output: Path,
    *,
    settings: DistillSettings | None = None,
    seed: int = 0,
    max_minutes: float | None = None,
    checkpoints: Path | None = None,
    overwrite: bool = False,
) -> dict[str, float]:
    """Distil a teacher; a killed distillation goes on when it is called again.

    Progressively, or a velocity field by reflow where ``settings.method`` says so; the layer energies are the teacher's.

    Args:
        teacher: bundle of a family that takes steps.
        showers: the shower file that was prepared.
        prepared: folder of the data that the teacher was trained on.
        output: bundle folder to write.
        settings: of the student.
        seed: of what is drawn.
        max_minutes: limit on all rounds.
        checkpoints: folder for checkpoints; beside ``output`` if not given.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Returns:
        Finite numbers: last losses, steps, seconds, parameters.

    Raises:
        InputError: the teacher takes no steps, too few, or cannot be distilled, or the data are not its own.
        TrainingDiverged: a round diverged.
        TrainingInterrupted: SIGTERM came; the state is saved.
    """
    settings = settings or DistillSettings()
    check_minutes(max_minutes)
    teacher = bundle_folder(teacher)
    output = check_folder(output, BUNDLE, inputs=[teacher, showers, prepared], overwrite=overwrite)
    generator = load_bundle(teacher, variant=False)
    name, rounds = plan(generator.network.config, settings, where=str(teacher))
    method = DISTILLATIONS.get(name)
    found = load_prepared(prepared)
    _check_data(teacher, found)
    with step(f"distill {generator.family}"):
        started = time.monotonic()
        split = open_split(showers, prepared, "train")
        fabric = open_fabric()
        family: Any = generator.network.to(fabric.device)
        digest = sha256(teacher / "weights.safetensors")
        root = checkpoints or output.parent / f".{output.name}.checkpoints"
        folder = root / fingerprint([digest, settings.model_dump(), seed], prepared)
        folder.mkdir(parents=True, exist_ok=True)
        data = TrainingData(split, found, folder, seed=seed, fabric=fabric)
        limit = None if max_minutes is None else 60 * max_minutes - (time.monotonic() - started)
        logger.info("%s: %s distillation to %s steps", generator.family, name, ", ".join(map(str, rounds)))
        stages: dict[str, Fit] = {}
        for number, steps in enumerate(rounds):
            place = f"round_{steps}"
            owner = nn.ModuleDict({place: method(family.voxels, steps)}).to(fabric.device)
            stage = Stage(settings.training, family.stages()["voxels"].batch, title=f"student of {steps} steps")
            left = None if limit is None else max(0.5, limit - sum(one.seconds for one in stages.values()))
            share = None if left is None else left / (len(rounds) - number)
            stages |= fit_stages(
                owner,
                {place: stage},
                data,
                folder,
                fabric,
                name=generator.family,
                seed=seed,
                limit=fabric.broadcast(share),
            )
            done: Any = owner[place]
            family.voxels = done.student
        del data  # no process may have files open in the folder that is removed below
        fabric.barrier()
        kind = FAMILIES.get(generator.family)
        config = kind.Config.parse(
            {
                **generator.config["settings"],
                "family": generator.family,
                "preset": generator.config["preset"],
                "sampler": {"name": method.sampler, "steps": settings.steps},
                "training": settings.training.model_dump(),
            },
            where="settings of the student",
        )
        student = kind(config, family.data)
        student.load_state_dict(family.state_dict())
        record = {
            "config": config.model_dump(),
            "max_minutes": max_minutes,
            "energies": {**generator.config["energies"], "given": True},
            "distillation": {
                "method": name,
                "rounds": list(rounds),
                "teacher": {
                    "sha256": digest,
                    "sampler": generator.config["settings"]["sampler"],
                    "stages": read_json(teacher / "training.json")["stages"],
                },
            },
            **training_record(student, stages, fabric),
            "provenance": provenance(
                inputs={
                    "showers": showers,
                    "transform": prepared / "transform.safetensors",
                    "teacher": teacher / "weights.safetensors",
                },
                seed=seed,
            ),
        }
        if fabric.is_global_zero:
            save_bundle(
                output,
                student,
                config,
                found,
                record=record,
                extrapolation=generator.extrapolation,
                overwrite=overwrite,
            )
            shutil.rmtree(folder)
            if not any(root.iterdir()):
                root.rmdir()
        fabric.barrier()
    return training_figures(record)


def _check_data(teacher: Path, prepared: Prepared) -> None:
    if sha256(teacher / TRANSFORM) != sha256(prepared.path / TRANSFORM):
        raise InputError(
            f"{prepared.path}: not the prepared data that {teacher} was trained on (its coding of voxels differs); give those"
        )
