"""The step that trains one generator."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    showers: Input[Dataset],
    prepared: Input[Dataset],
    bundle: Output[Model],
    metrics: Output[Metrics],
    family: str,
    preset: str = "demo",
    overrides: str = "{}",
    seed: int = 0,
    max_minutes: float = 0.0,
    checkpoints: str = "",
    nodes: int = 1,
    processes: int = 1,
    backend: str = "auto",
    training_pod: str = "{}",
    training_resources: str = "{}",
    code_version: str = "",
) -> None:
    """Train one family and write its generator bundle.

    Args:
        showers: CaloChallenge HDF5 file.
        prepared: folder that preprocess wrote.
        bundle: generator bundle.
        metrics: final losses and costs.
        family: name of the generator family.
        preset: demo or full.
        overrides: JSON of {family: {setting: value}} on top of the preset.
        seed: seed of initialisation and batches.
        max_minutes: bound of the training; 0 is no bound.
        checkpoints: folder that outlives the task; empty: none.
        nodes: pods of the training; more than one are a TrainJob.
        processes: processes for each node.
        backend: local (torchrun), cluster (TrainJob) or auto.
        training_pod: JSON of what each pod of a TrainJob gets.
        training_resources: JSON of its resources, on top of that.
        code_version: another version makes another cache entry.
    """
    import json
    from pathlib import Path

    from caloforge.components.artifacts import describe, log_scalars
    from caloforge.components.task import task
    from caloforge.models.distributed import train_distributed
    from caloforge.models.training_pod import TrainingPod

    with task("train", family):
        figures = train_distributed(
            Path(showers.path), Path(prepared.path), Path(bundle.path),
            family=family, preset=preset, overrides=json.loads(overrides).get(family), seed=seed,
            max_minutes=max_minutes or None, checkpoints=Path(checkpoints) / family if checkpoints else None,
            nodes=nodes, processes=processes, backend=backend,
            pod=TrainingPod.parse({**json.loads(training_pod), **json.loads(training_resources)}, where="training_pod"),
        )  # fmt: skip
        log_scalars(metrics, figures)
        describe(bundle, family=family, preset=preset, seed=seed)
