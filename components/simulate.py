"""The step that simulates the showers with Geant4, in place of data."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def simulate(
    showers: Output[Dataset],
    metrics: Output[Metrics],
    settings: str,
    seed: int = 0,
    checkpoints: str = "",
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Simulate showers with Geant4 as one CaloChallenge HDF5 file.

    Args:
        showers: the file.
        metrics: CPU seconds in all and for each GeV.
        settings: JSON of SimulateSettings.
        seed: seed of the showers.
        checkpoints: folder of a claim for the showers that are finished, so that a step whose pod was lost goes on;
            empty: none.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars, record
    from caloforge.components.task import task
    from caloforge.preprocessing.simulation.settings import SimulateSettings

    with task("simulate"):
        parsed = SimulateSettings.parse(json.loads(settings), where="simulate")
        figures, source = parsed.run(Path(showers.path), seed=seed, parts=Path(checkpoints) if checkpoints else None)
        describe(showers, seed=seed, **{f"data_{key}": value for key, value in source.as_dict().items()})
        log_scalars(metrics, figures)
        return (record("simulate", {}, data=source),)
