"""The step that trains one generator."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    prepared: Input[Dataset],
    energies: Input[Model],
    bundle: Output[Model],
    metrics: Output[Metrics],
    data: str,
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
    seconds: int = 0,
    standing: str = "[]",
    strict: bool = False,
    data_sha256: str = "",
    showers: Input[Dataset] = None,
    code_version: str = "",
) -> NamedTuple("Outputs", [("record", str)]):  # type: ignore[valid-type]
    """Train one family and write its generator bundle, or why there is none.

    Args:
        prepared: folder that preprocess wrote.
        energies: trained layer energies, for families that stand on them.
        bundle: generator bundle.
        metrics: final losses and costs.
        data: address of the CaloChallenge HDF5 file.
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
        seconds: the step may take, fetching included; 0 is no bound.
        standing: JSON of the families that stand on the layer energies.
        strict: fail where the family fails, in place of going on without it.
        data_sha256: checksum of the file.
        showers: the file that the step convert wrote, in place of data; none without that step.
        code_version: another version makes another cache entry.

    Returns:
        Record of what was written.
    """
    import json
    import time
    from pathlib import Path

    from caloforge.components.artifacts import describe, has_energies, log_scalars, record, showers_here
    from caloforge.components.family import family_of
    from caloforge.components.task import task
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.training.apart import train_apart
    from caloforge.models.training.pod import TrainingPod
    from caloforge.temporary import scratch_folder

    began = time.monotonic()
    with task("train", family) as ending, scratch_folder() as scratch:
        path = showers_here(data, showers, scratch, checksum=data_sha256).path
        pod = TrainingPod.parse({**json.loads(training_pod), **json.loads(training_resources)}, where="training_pod")
        changes = json.loads(overrides).get(family) or {}
        # Settings of its own for the layer energies mean that it trains its own; so does a run that trained none.
        shared = family in json.loads(standing) and "energies" not in changes and has_energies(Path(energies.path))
        with family_of(bundle, family, ending, strict=strict) as outcome:
            request = TrainingRequest(
                showers=path, prepared=Path(prepared.path), output=Path(bundle.path),
                energies=Path(energies.path) if shared else None,
                family=family, preset=preset, overrides=changes, seed=seed,
                max_minutes=max_minutes or None, checkpoints=Path(checkpoints) / family if checkpoints else None,
            )  # fmt: skip
            # The pod has little more time than that, fetching included; its end would be that of the run.
            left = max(1.0, seconds - (time.monotonic() - began)) if seconds else None
            figures = train_apart(request, nodes=nodes, processes=processes, backend=backend, pod=pod, seconds=left)
            log_scalars(metrics, figures, family=family)
            describe(bundle, display_name=f"bundle {family}", preset=preset, seed=seed)
        if outcome.failed:
            log_scalars(metrics, {}, family=family)
        return (record("train", {"bundle": bundle}, family=family, failed=outcome.failed),)
