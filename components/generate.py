"""The step that draws showers from a trained generator."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def generate(
    bundle: Input[Model],
    prepared: Input[Dataset],
    generated: Output[Dataset],
    metrics: Output[Metrics],
    seed: int = 0,
    steps: int = 0,
    strict: bool = False,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Draw one shower for each held-out Geant4 shower, at its conditions.

    Args:
        bundle: generator bundle.
        prepared: folder that preprocess wrote; it holds the conditions.
        generated: CaloChallenge HDF5 file.
        metrics: number of showers and time per shower.
        seed: seed of the draws.
        steps: sampling steps; 0: the bundle's own.
        strict: fail where the family fails, in place of going on without it.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars, record
    from caloforge.components.family import family_of, why_failed
    from caloforge.components.task import task
    from caloforge.models.generate import generate as generate_showers
    from caloforge.preprocessing.prepared import load_prepared

    family = bundle.metadata["family"]
    with task("generate", family) as ending:
        conditions = load_prepared(Path(prepared.path)).conditions_of("test")
        figures = {}
        with family_of(generated, family, ending, strict=strict, before=why_failed(bundle)) as outcome:
            if not outcome.failed:
                figures = generate_showers(
                    Path(bundle.path), conditions, Path(generated.path), seed=seed, steps=steps or None
                )
                ms_per_shower = figures["ms_per_shower"]
                describe(generated, display_name=f"generated {family}", ms_per_shower=ms_per_shower, seed=seed)
        log_scalars(metrics, figures, family=family)
        return (record("generate", {"generated": generated}, family=family, failed=outcome.failed),)
