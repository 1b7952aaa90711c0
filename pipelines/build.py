"""Join the components into the pipeline."""

import json
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Model

from caloforge.components.compare import compare
from caloforge.components.export import export
from caloforge.components.generate import generate
from caloforge.components.preprocess import preprocess
from caloforge.components.smoke import smoke
from caloforge.components.train import train
from caloforge.components.validate import validate
from caloforge.pipelines.settings import PipelineSettings, Resources, Step


class Results(NamedTuple):
    """What the pipeline returns; one bundle and one file of showers for each family, in order."""

    bundles: list[Model]
    generated: list[Dataset]
    judgement: Dataset
    report: HTML
    leaderboard: Dataset
    winner: Model


def build_pipeline(settings: PipelineSettings) -> Any:
    """Return the pipeline, ready for kfp's compiler.

    What a run may change without a new pipeline (data, families, preset, budgets) are parameters
    with the settings as defaults; what only the compiler can place (image, resources, retries)
    is fixed here.
    """

    def configured(task: Any, step: Step, name: str) -> Any:
        return _configure(task, settings, step, name)

    @dsl.pipeline(
        name=settings.name,
        description="From full-simulation calorimeter showers to a validated, exported and served generator.",
    )
    def pipeline(
        data: str = settings.data,
        data_sha256: str = "",
        geometry: str = "",
        prepare: str = settings.prepare.model_dump_json(exclude_defaults=True),
        families: list[str] = list(settings.families),  # noqa: B006 - kfp takes it as the default
        preset: str = settings.preset,
        overrides: str = json.dumps(settings.overrides, sort_keys=True),
        max_minutes: float = settings.max_minutes,
        seed: int = settings.seed,
        checkpoints: str = "",
        code_version: str = settings.code_version,
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
            seed: seed of every step.
            checkpoints: folder that outlives the tasks; empty: none.
            code_version: a new one makes the pipeline run anew.
        """
        showers = dsl.importer(artifact_uri=data, artifact_class=Dataset).set_display_name("showers").output
        prepared = configured(
            preprocess(
                showers=showers, settings=prepare, geometry=geometry, seed=seed,
                data_sha256=data_sha256, code_version=code_version,
            ), "preprocess", "preprocess",
        ).outputs["prepared"]  # fmt: skip
        with dsl.ParallelFor(families, name="families") as family:
            bundle = configured(
                train(
                    showers=showers, prepared=prepared, family=family, preset=preset, overrides=overrides,
                    seed=seed, max_minutes=max_minutes, checkpoints=checkpoints,
                ), "train", "train",
            ).outputs["bundle"]  # fmt: skip
            generated = configured(
                generate(bundle=bundle, showers=showers, prepared=prepared, seed=seed), "generate", "generate"
            ).outputs["generated"]
        judged = configured(
            validate(showers=showers, prepared=prepared, generated=dsl.Collected(generated), seed=seed),
            "validate", "validate",
        )  # fmt: skip
        compared = configured(
            compare(judgement=judged.outputs["judgement"], bundles=dsl.Collected(bundle)), "compare", "compare"
        )
        exported = configured(export(bundle=compared.outputs["winner"]), "export", "export to ONNX")
        configured(smoke(bundle=exported.outputs["exported"], seed=seed), "smoke", "serve and query")
        return Results(
            bundles=dsl.Collected(bundle),
            generated=dsl.Collected(generated),
            judgement=judged.outputs["judgement"],
            report=judged.outputs["report"],
            leaderboard=compared.outputs["leaderboard"],
            winner=exported.outputs["exported"],
        )

    return pipeline


def _configure(task: Any, settings: PipelineSettings, step: Step, name: str) -> Any:
    resources = settings.resources.get(step, Resources())
    task.set_display_name(name).set_container_image(settings.image)
    task.set_cpu_request(resources.cpu).set_memory_request(resources.memory).set_memory_limit(resources.memory)
    if resources.gpus:
        task.set_accelerator_type(resources.gpu_type).set_accelerator_limit(resources.gpus)
    if settings.retries:
        task.set_retry(settings.retries, backoff_duration="30s")
    return task
