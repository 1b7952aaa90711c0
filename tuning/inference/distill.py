"""Distil a generator, and say beside the gain what is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from caloforge.files import write_json
from caloforge.models.bundle import bundle_folder, load_bundle, read_bundle_config, seal_bundle
from caloforge.models.configuration import DistillSettings
from caloforge.models.training.distill import train_student
from caloforge.outputs import check_folder, result_folder
from caloforge.preprocessing.prepared import open_split
from caloforge.result_kinds import BUNDLE
from caloforge.temporary import scratch_folder
from caloforge.tuning.inference.few_steps import FewSteps, Way, judge_ways, sentence, table


def distill(
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
) -> FewSteps:
    """Train a student with few steps, judge it beside its teacher, and write its bundle with the measurement.

    The validation split judges; the teacher with the student's steps stands beside both, for what the training gained.

    Args:
        teacher: bundle of a family that takes steps.
        showers: the shower file that was prepared.
        prepared: folder of the data that the teacher was trained on.
        output: bundle folder to write.
        settings: of the student.
        seed: of all that is drawn.
        max_minutes: limit on the training.
        checkpoints: folder from which a stopped distillation goes on; beside ``output`` if not given.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: see :func:`caloforge.models.training.distill.train_student`; or too few showers to judge by.
        TrainingDiverged: a round diverged.
        TrainingInterrupted: SIGTERM came; the state is saved.
    """
    settings = settings or DistillSettings()
    teacher = bundle_folder(teacher)
    target = check_folder(output, BUNDLE, inputs=[teacher, showers, prepared], overwrite=overwrite)
    kept = checkpoints or target.parent / f".{target.name}.checkpoints"
    with scratch_folder() as scratch:
        student = scratch / "student"
        train_student(
            teacher, showers, prepared, student, settings=settings, seed=seed, max_minutes=max_minutes, checkpoints=kept
        )
        before, after = load_bundle(teacher, variant=False), load_bundle(student)
        steps = before.default_steps or 1
        ways = [
            Way("teacher", before, steps),
            Way("student", after, settings.steps),
            Way("teacher, as few steps", before, settings.steps),
        ]
        found = judge_ways(
            ways, open_split(showers, prepared, "validation"), open_split(showers, prepared, "train"), seed=seed,
            inputs={"teacher": teacher / "weights.safetensors", "student": student / "weights.safetensors"},
        )  # fmt: skip
        with result_folder(output, BUNDLE, inputs=[teacher, showers, prepared], overwrite=overwrite) as folder:
            config = read_bundle_config(student)
            for name in config["files"]:
                shutil.copyfile(student / name, folder / name)
            write_json(folder / "distillation.json", found.model_dump(mode="json"))
            (folder / "distillation.md").write_text(table(found), encoding="utf-8")
            content = {key: value for key, value in config.items() if key != "files"}
            seal_bundle(folder, {**content, "distilled": sentence(found)})
    return found


def distill_if_stepped(teacher: Path, showers: Path, prepared: Path, output: Path, **options: Any) -> FewSteps | None:
    """Distil a generator as :func:`distill` does; one that draws a shower in one pass is copied, and there is nothing to say."""
    teacher = bundle_folder(teacher)
    if load_bundle(teacher, variant=False).default_steps is not None:
        return distill(teacher, showers, prepared, output, **options)
    config = read_bundle_config(teacher)
    with result_folder(output, BUNDLE, inputs=[teacher]) as folder:
        for name in (*config["files"], "config.json"):
            shutil.copyfile(teacher / name, folder / name)
    return None
