"""Join the components into the pipeline."""

import json
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Model

from caloforge.components.compare import compare
from caloforge.components.deploy import deploy as deploy_winner
from caloforge.components.export import export
from caloforge.components.generate import generate
from caloforge.components.preprocess import preprocess
from caloforge.components.train import train
from caloforge.components.tune import tune
from caloforge.components.validate import validate
from caloforge.pipelines.notified import notified
from caloforge.pipelines.placement import pipeline_config, place
from caloforge.pipelines.settings import PipelineSettings, Step
from caloforge.pipelines.version import code_version as installed_version


class Results(NamedTuple):
    """What the pipeline returns; one bundle and one file of showers for each family, in order."""

    bundles: list[Model]
    generated: list[Dataset]
    judgement: Dataset
    report: HTML
    leaderboard: Dataset
    winner: Model
    url: str
    tunings: list[Dataset]


def build_pipeline(settings: PipelineSettings) -> Any:
    """Return the pipeline, ready for kfp's compiler.

    What a run may change without a new pipeline (data, families, preset, budgets, resources of the
    training) are parameters with the settings as defaults; what only the compiler can place (image,
    volumes, retries) is fixed here.
    """
    training = settings.training_pod()
    trial = training.model_dump_json(exclude_defaults=True, exclude={"runtime", "shared"})
    if settings.trains_in_train_job:
        training.check_shared()
    fixed = training.model_dump_json(exclude_defaults=True, exclude={"cpu", "memory", "gpus", "gpu_type"})
    service = json.dumps(settings.served().model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    # What a run has put on the cluster cannot come from a cache; what it only tries within the step can.
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER if settings.deploy else ""

    def placed(task: Any, step: Step, name: str, **resources: Any) -> Any:
        return place(task, settings, step, name=name, resources=resources)

    def steps(
        data: str = settings.data,
        data_sha256: str = "",
        geometry: str = "",
        prepare: str = settings.prepare.model_dump_json(exclude_defaults=True),
        families: list[str] = list(settings.families),  # noqa: B006 - kfp takes it as the default
        preset: str = settings.preset,
        overrides: str = json.dumps(settings.overrides, sort_keys=True),
        max_minutes: float = settings.max_minutes,
        protocol: str = settings.protocol,
        tune_trials: int = settings.tuning.trials,
        tune_backend: str = settings.tuning.backend,
        tune_settings: str = settings.tuning.model_dump_json(exclude_defaults=True, exclude={"trials", "backend"}),
        seed: int = settings.seed,
        checkpoints: str = "",
        code_version: str = settings.code_version or installed_version(),
        train_cpu: str = training.cpu,
        train_memory: str = training.memory,
        train_gpus: str = str(training.gpus),
        train_gpu_type: str = training.gpu_type,
        deploy: str = settings.deploy,
        train_nodes: int = settings.distributed.nodes,
        train_processes: int = settings.distributed.processes,
    ) -> Results:
        """Train the families side by side on one shower file, judge them and export the best.

        Args:
            data: address of the CaloChallenge HDF5 file.
            data_sha256: its checksum; a new one makes the pipeline run anew.
            geometry: JSON of {"name", "text" of the binning XML}; empty: the file's own.
            prepare: JSON of the preprocessing settings.
            families: generator families to train.
            preset: demo or full.
            overrides: JSON of {family: {setting: value}}.
            max_minutes: bound of each training; 0 is none.
            protocol: how showers are judged: quick on any geometry, challenge as CaloChallenge does.
            tune_trials: trials of the search for each family's parameters before its training; 0 is no search.
            tune_backend: where trials run: auto, katib, or local for the step's own pod.
            tune_settings: JSON of the search's other settings.
            seed: seed of every step.
            checkpoints: folder that outlives the tasks; empty: none.
            code_version: a new one makes the pipeline run anew.
            train_cpu: cores for each training.
            train_memory: memory for each training, e.g. 16Gi.
            train_gpus: number of GPUs for each training.
            train_gpu_type: Kubernetes' name of the GPUs.
            deploy: name of the InferenceService for the best; empty: it is only served within the last step.
            train_nodes: pods of each training; several make a TrainJob.
            train_processes: processes for each pod of a training.
        """
        showers = dsl.importer(artifact_uri=data, artifact_class=Dataset).set_display_name("showers").output
        prepared = placed(
            preprocess(
                showers=showers, settings=prepare, geometry=geometry, seed=seed,
                data_sha256=data_sha256, code_version=code_version,
            ), "preprocess", "preprocess",
        ).outputs["prepared"]  # fmt: skip
        with dsl.ParallelFor(families, name="families") as family:
            tuned = placed(
                tune(
                    showers=showers, prepared=prepared, family=family, preset=preset, overrides=overrides,
                    trials=tune_trials, backend=tune_backend, settings=tune_settings, pod=trial,
                    seed=seed, checkpoints=checkpoints, code_version=code_version,
                ), "tune", "tune",
            )  # fmt: skip
            bundle = placed(
                train(
                    showers=showers, prepared=prepared, family=family, preset=preset,
                    overrides=tuned.outputs["Output"],
                    seed=seed, max_minutes=max_minutes, checkpoints=checkpoints, nodes=train_nodes,
                    processes=train_processes, backend=settings.distributed.backend, training_pod=fixed,
                    training_resources=(
                        f'{{"cpu": "{train_cpu}", "memory": "{train_memory}", "gpus": {train_gpus}, '
                        f'"gpu_type": "{train_gpu_type}"}}'
                    ),
                    code_version=code_version,
                ), "train", "train",
                # A step that waits for a TrainJob needs no GPUs of its own.
                **({} if settings.trains_in_train_job else {
                    "cpu": train_cpu, "memory": train_memory, "gpus": train_gpus, "gpu_type": train_gpu_type,
                }),
            ).outputs["bundle"]  # fmt: skip
            generated = placed(
                generate(bundle=bundle, showers=showers, prepared=prepared, seed=seed, code_version=code_version),
                "generate", "generate",
            ).outputs["generated"]  # fmt: skip
        judged = placed(
            validate(
                showers=showers, prepared=prepared, generated=dsl.Collected(generated), protocol=protocol,
                seed=seed, code_version=code_version,
            ), "validate", "validate",
        )  # fmt: skip
        compared = placed(
            compare(
                judgement=judged.outputs["judgement"], bundles=dsl.Collected(bundle), code_version=code_version
            ), "compare", "compare",
        )  # fmt: skip
        exported = placed(export(bundle=compared.outputs["winner"], code_version=code_version), "export", "export")
        deployed = placed(
            deploy_winner(
                bundle=exported.outputs["exported"], name=deploy, settings=service, seed=seed, run=run,
                code_version=code_version,
            ), "deploy", "deploy",
        )  # fmt: skip
        return Results(
            bundles=dsl.Collected(bundle),
            generated=dsl.Collected(generated),
            judgement=judged.outputs["judgement"],
            report=judged.outputs["report"],
            leaderboard=compared.outputs["leaderboard"],
            winner=exported.outputs["exported"],
            url=deployed.outputs["url"],
            tunings=dsl.Collected(tuned.outputs["tuning"]),
        )

    return dsl.pipeline(
        name=settings.name,
        description="From full-simulation calorimeter showers to a validated, exported and served generator.",
        pipeline_config=pipeline_config(settings),
    )(notified(steps, settings))
