"""The step that trains a student with few sampling steps from each generator that takes many."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Markdown, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def distill(
    bundle: Input[Model],
    prepared: Input[Dataset],
    student: Output[Model],
    table: Output[Markdown],
    metrics: Output[Metrics],
    data: str,
    settings: str = "{}",
    seed: int = 0,
    checkpoints: str = "",
    strict: bool = False,
    data_sha256: str = "",
    showers: Input[Dataset] = None,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Distil a generator; one that draws a shower in one pass goes on as it is.

    Args:
        bundle: generator bundle, the teacher.
        prepared: folder that preprocess wrote; its validation split judges.
        student: generator bundle with few steps.
        table: fidelity and time of teacher and student.
        metrics: the gain and the loss.
        data: address of the CaloChallenge HDF5 file.
        settings: JSON of the student's steps and training.
        seed: of all that is drawn.
        checkpoints: folder that outlives the task; empty: none.
        strict: fail where the family fails, in place of going on without it.
        data_sha256: checksum of the file.
        showers: the file that the step convert wrote, in place of data; none without that step.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars, record, showers_here
    from caloforge.components.family import family_of, why_failed
    from caloforge.components.task import task
    from caloforge.models.configuration import DistillSettings
    from caloforge.temporary import scratch_folder
    from caloforge.tuning.inference.distill import distill_if_stepped
    from caloforge.tuning.inference.few_steps import figures
    from caloforge.tuning.inference.few_steps import table as table_of

    family = bundle.metadata["family"]
    with task("distill", family) as ending, scratch_folder() as scratch:
        how = DistillSettings.parse(json.loads(settings), where="settings")
        values, told = {}, f"{family}: no student\n"
        with family_of(student, family, ending, strict=strict, before=why_failed(bundle)) as outcome:
            if not outcome.failed:
                path = showers_here(data, showers, scratch, checksum=data_sha256).path
                found = distill_if_stepped(
                    Path(bundle.path), path, Path(prepared.path), Path(student.path), settings=how, seed=seed,
                    checkpoints=Path(checkpoints) / f"{family}_student" if checkpoints else None,
                )  # fmt: skip
                if found is not None:
                    values, told = figures(found), table_of(found)
                describe(student, display_name=f"student {family}", seed=seed)
        log_scalars(metrics, values, family=family)
        Path(table.path).write_text(told, encoding="utf-8")
        kept = {"student": student} if values else {}
        return (record("distill", kept, family=family, failed=outcome.failed),)
