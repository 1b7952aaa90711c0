"""The step that judges the generated showers and ranks the generators."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, ClassificationMetrics, Dataset, Input, Markdown, Metrics, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    prepared: Input[Dataset],
    generated: Input[list[Dataset]],
    judgement: Output[Dataset],
    report: Output[HTML],
    summary: Output[Markdown],
    metrics: Output[Metrics],
    leaderboard: Output[Dataset],
    ranking: Output[Markdown],
    roc: Output[ClassificationMetrics],
    data: str,
    protocol: str = "quick",
    seed: int = 0,
    data_sha256: str = "",
    showers: Input[Dataset] = None,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Compare every generator with held-out Geant4 showers, beside the Geant4-Geant4 floor, and rank them.

    Args:
        prepared: folder that preprocess wrote.
        generated: CaloChallenge HDF5 files, one for each generator.
        judgement: folder with metrics.json, tables.csv and plots as PNG and PDF.
        report: self-contained report.
        summary: the verdicts and the most important figures.
        metrics: high-level AUC of each generator and the floor.
        leaderboard: JSON of the ranked rows and of the rule.
        ranking: the same as a table.
        roc: ROC of the classifier that tells the winner's showers from Geant4's.
        data: address of the CaloChallenge HDF5 file.
        protocol: quick on any geometry, challenge as CaloChallenge does.
        seed: seed of the classifiers.
        data_sha256: checksum of the file.
        showers: the file that the step convert wrote, in place of data; none without that step.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import shutil
    from pathlib import Path

    from caloforge.components.artifacts import describe, headline, log_roc, log_scalars, record, showers_here
    from caloforge.components.family import why_failed
    from caloforge.components.task import task
    from caloforge.preprocessing.prepared import load_prepared, open_split
    from caloforge.showers import open_showers
    from caloforge.temporary import scratch_folder
    from caloforge.validation.report.leaderboard import leaderboard as make_leaderboard
    from caloforge.validation.report.leaderboard import leaderboard_markdown, none_is_left
    from caloforge.validation.validate import validate as validate_showers

    with task("validate"), scratch_folder() as scratch:
        failures = {sample.metadata["family"]: reason for sample in generated if (reason := why_failed(sample))}
        judged = {sample.metadata["family"]: sample for sample in generated if not why_failed(sample)}
        if not judged:
            raise none_is_left(failures)
        path = showers_here(data, showers, scratch, checksum=data_sha256).path
        output = Path(judgement.path)
        reference, floor, training = (
            open_split(path, Path(prepared.path), split) for split in ("test", "validation", "train")
        )
        figures = validate_showers(
            reference,
            {name: open_showers(Path(sample.path)) for name, sample in judged.items()},
            output,
            floor=floor,
            training=training,
            timings={name: sample.metadata["ms_per_shower"] for name, sample in judged.items()},
            protocol=protocol,
            seed=seed,
            failed=failures,
            source=load_prepared(Path(prepared.path)).source,
        )
        board = make_leaderboard(figures)
        board.write(Path(leaderboard.path))
        Path(ranking.path).write_text(leaderboard_markdown(board), encoding="utf-8")
        shutil.copyfile(output / "report.html", report.path)
        shutil.copyfile(output / "summary.md", summary.path)
        log_scalars(metrics, headline(board))
        log_roc(roc, **figures.generators[board.winner].rocs["auc"].model_dump())
        written = {"judgement": judgement, "report": report, "leaderboard": leaderboard, "ranking": ranking}
        for artifact in (*written.values(), summary, roc):
            describe(artifact)
        return (record("validate", written),)
