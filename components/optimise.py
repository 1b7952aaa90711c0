"""The step that finds the fastest way to run the winner, by measurement."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def optimise(
    bundle: Input[Model],
    prepared: Input[Dataset],
    optimised: Output[Model],
    table: Output[Markdown],
    plot: Output[HTML],
    metrics: Output[Metrics],
    data: str,
    settings: str = "{}",
    seed: int = 0,
    data_sha256: str = "",
    showers: Input[Dataset] = None,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Measure what this machine can run the winner as, and keep the fastest that is not worse than float32.

    Args:
        bundle: exported generator bundle.
        prepared: folder that preprocess wrote; its validation split judges.
        optimised: the bundle with the chosen variant and the measurement.
        table: time, memory and fidelity of each variant.
        plot: fidelity against time.
        metrics: the gain.
        data: address of the CaloChallenge HDF5 file.
        settings: JSON of how it is measured.
        seed: of the showers and classifiers.
        data_sha256: checksum of the file.
        showers: the file that the step convert wrote, in place of data; none without that step.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    import shutil
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars, record, showers_here
    from caloforge.components.task import task
    from caloforge.temporary import scratch_folder
    from caloforge.tuning.inference.optimise import optimise as optimise_bundle
    from caloforge.tuning.inference.optimise import two_samples
    from caloforge.tuning.inference.record import OptimiseSettings
    from caloforge.tuning.inference.report import plot_html

    with task("optimise"), scratch_folder() as scratch:
        how = OptimiseSettings.parse(json.loads(settings), where="settings")
        path = showers_here(data, showers, scratch, checksum=data_sha256).path
        reference, other = two_samples(path, Path(prepared.path))
        output = Path(optimised.path)
        found = optimise_bundle(Path(bundle.path), reference, other, output, settings=how, seed=seed)
        shutil.copyfile(output / "optimisation.md", table.path)
        Path(plot.path).write_text(plot_html(found), encoding="utf-8")
        log_scalars(metrics, {"speed": found.winner.speed, **found.winner.times()}, family=found.family)
        for artifact in (optimised, table, plot):
            describe(artifact, family=found.family)
        return (record("optimise", {"optimised": optimised}, family=found.family),)
