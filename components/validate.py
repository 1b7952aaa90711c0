"""The step that judges the generated showers."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    showers: Input[Dataset],
    prepared: Input[Dataset],
    generated: Input[list[Dataset]],
    judgement: Output[Dataset],
    report: Output[HTML],
    summary: Output[Markdown],
    metrics: Output[Metrics],
    protocol: str = "quick",
    seed: int = 0,
    code_version: str = "",
) -> None:
    """Compare every generator with held-out Geant4 showers, beside the Geant4-Geant4 floor.

    Args:
        showers: CaloChallenge HDF5 file.
        prepared: folder that preprocess wrote.
        generated: CaloChallenge HDF5 files, one for each generator.
        judgement: folder with metrics.json, tables.csv and plots as PNG and PDF.
        report: self-contained report.
        summary: the verdicts and the most important figures.
        metrics: high-level AUC of each generator and the floor.
        protocol: quick on any geometry, challenge as CaloChallenge does.
        seed: seed of the classifiers.
        code_version: another version makes another cache entry.
    """
    import shutil
    from pathlib import Path

    from caloforge.components.artifacts import describe, headline, log_scalars
    from caloforge.components.task import task
    from caloforge.preprocessing.prepared import open_split
    from caloforge.showers import open_showers
    from caloforge.validation.validate import validate as validate_showers

    with task("validate"):
        output = Path(judgement.path)
        reference, floor, training = (
            open_split(Path(showers.path), Path(prepared.path), split) for split in ("test", "validation", "train")
        )
        figures = validate_showers(
            reference,
            {sample.metadata["generator"]: open_showers(Path(sample.path)) for sample in generated},
            output,
            floor=floor,
            training=training,
            timings={sample.metadata["generator"]: sample.metadata["ms_per_shower"] for sample in generated},
            protocol=protocol,
            seed=seed,
        )
        shutil.copyfile(output / "report.html", report.path)
        shutil.copyfile(output / "summary.md", summary.path)
        log_scalars(metrics, headline(figures))
        describe(judgement, seed=seed)
