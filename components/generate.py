"""The step that draws showers from a trained generator."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def generate(
    bundle: Input[Model],
    showers: Input[Dataset],
    prepared: Input[Dataset],
    generated: Output[Dataset],
    metrics: Output[Metrics],
    seed: int = 0,
    steps: int = 0,
    code_version: str = "",
) -> None:
    """Draw one shower for each held-out Geant4 shower, at its conditions.

    Args:
        bundle: generator bundle.
        showers: CaloChallenge HDF5 file.
        prepared: folder that preprocess wrote.
        generated: CaloChallenge HDF5 file.
        metrics: number of showers and time per shower.
        seed: seed of the draws.
        steps: sampling steps; 0: the bundle's own.
        code_version: another version makes another cache entry.
    """
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars
    from caloforge.components.task import task
    from caloforge.models.generate import generate as generate_showers
    from caloforge.preprocessing.prepared import open_split

    family = bundle.metadata["family"]
    with task("generate", family):
        conditions = open_split(Path(showers.path), Path(prepared.path), "test").conditions
        figures = generate_showers(Path(bundle.path), conditions, Path(generated.path), seed=seed, steps=steps or None)
        log_scalars(metrics, figures)
        describe(generated, generator=family, ms_per_shower=figures["ms_per_shower"], seed=seed)
