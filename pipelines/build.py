"""Join the components into the pipeline."""

import json
from typing import Any, NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset

from caloforge.components.convert import convert as convert_showers
from caloforge.components.deploy import deploy as deploy_winner
from caloforge.components.distill import distill
from caloforge.components.export import export
from caloforge.components.generate import generate
from caloforge.components.optimise import optimise
from caloforge.components.overview import overview
from caloforge.components.preprocess import preprocess
from caloforge.components.simulate import simulate as simulate_showers
from caloforge.components.train import train
from caloforge.components.tune import tune
from caloforge.components.validate import validate
from caloforge.models.registries import FAMILIES
from caloforge.pipelines.form import unused, without
from caloforge.pipelines.names import LOOP, name_loop
from caloforge.pipelines.notified import notified
from caloforge.pipelines.placement import pipeline_config, place
from caloforge.pipelines.settings import PipelineSettings, Step
from caloforge.pipelines.version import code_version as installed_version
from caloforge.preprocessing.simulation.settings import as_json


class Results(NamedTuple):
    """What the pipeline returns: where everything else lies, and the page to look at first."""

    index: Dataset
    page: HTML


def build_pipeline(settings: PipelineSettings) -> Any:
    """Return the pipeline, ready for kfp's compiler.

    What changes from run to run (data, families, preset, bounds, memory and GPUs of the training) are
    parameters with the settings as defaults; the rest is fixed here. A step that the settings have no
    use for is not there, nor are its parameters: ``tune`` without a search, ``deploy`` without a name,
    ``notify`` without a webhook.
    """
    searches, deploys = (name not in unused(settings) for name in ("tune_trials", "deploy"))
    training = settings.training_pod()
    trial = training.model_dump_json(exclude_defaults=True, exclude={"runtime", "shared"})
    if settings.trains_in_train_job:
        training.check_shared()
    fixed = training.model_dump_json(exclude_defaults=True, exclude={"memory", "gpus"})
    service = json.dumps(settings.served().model_dump(mode="json", exclude_defaults=True), sort_keys=True)
    overrides = json.dumps(settings.overrides, sort_keys=True)
    version = settings.code_version or installed_version()

    # Families that draw layer energies first, whichever of them a run trains.
    standing = sorted(name for name in FAMILIES if FAMILIES.get(name).uses_layer_energies)
    # Those with settings of their own for them train their own.
    own = [name for name, changes in settings.overrides.items() if "energies" in changes]

    def placed(task: Any, step: Step, **resources: Any) -> Any:
        return place(task, settings, step, resources=resources)

    def steps(
        data: str = settings.data if isinstance(settings.data, str) else json.dumps(settings.data),
        data_sha256: str = "",
        geometry: str = "",
        families: list[str] = list(settings.families),  # noqa: B006 - kfp takes it as the default
        preset: str = settings.preset,
        max_minutes: float = settings.max_minutes,
        protocol: str = settings.protocol,
        seed: int = settings.seed,
        train_memory: str = training.memory,
        train_gpus: str = str(training.gpus),
        tune_trials: int = settings.tuning.trials,
        deploy: str = settings.deploy,
    ) -> Results:
        """Train the families side by side on one shower file, judge them and export the best.

        Args:
            data: address of the showers; with the step convert also JSON of a list of them.
            data_sha256: its checksum; a new one makes the pipeline run anew.
            geometry: name of the mesh, or JSON of {"geometry_name", "geometry_xml" or "geometry_csv"}; empty: the file's own.
            families: generator families to train.
            preset: demo or full.
            max_minutes: bound of each training; 0 is none.
            protocol: how showers are judged: quick on any geometry, challenge as CaloChallenge does.
            seed: seed of every step.
            train_memory: memory for each training, e.g. 16Gi.
            train_gpus: number of GPUs for each training.
            tune_trials: trials of the search for each family's parameters before its training; 0 is no search.
            deploy: name of the InferenceService for the best.
        """
        # What every step is told, and what a step is told that fetches the showers.
        common = {"seed": seed, "code_version": version}
        showers: dict[str, Any] = {"data": data, "data_sha256": data_sha256}
        if settings.simulate is not None:
            simulated = placed(
                simulate_showers(
                    settings=as_json(settings.simulate), checkpoints=settings.checkpoints, **common
                ), "simulate",
            )  # fmt: skip
            showers = {"data": "", "showers": simulated.outputs["showers"]}
        if settings.converts:
            converted = placed(
                convert_showers(
                    data=data,
                    data_sha256=data_sha256,
                    test=json.dumps(settings.test),
                    geometry=geometry,
                    code_version=version,
                ),
                "convert",
            )
            showers = {"data": data, "showers": converted.outputs["showers"]}
        prepare = settings.prepare.model_dump_json(exclude_defaults=True)
        preprocessed = placed(
            preprocess(
                settings=prepare, geometry=geometry, preset=preset, max_minutes=max_minutes,
                with_energies=bool({*standing} & {*settings.families} - {*own}), **showers, **common,
            ), "preprocess",
        )  # fmt: skip
        prepared = preprocessed.outputs["prepared"]
        with dsl.ParallelFor(families, name=LOOP) as family:
            one = {"family": family, "preset": preset, "checkpoints": settings.checkpoints, **showers, **common}
            if searches:
                tuned = placed(
                    tune(
                        prepared=prepared, energies=preprocessed.outputs["energies"], standing=json.dumps(standing),
                        trials=tune_trials, overrides=overrides, pod=trial,
                        backend=settings.tuning.backend,
                        settings=settings.tuning.model_dump_json(exclude_defaults=True, exclude={"trials", "backend"}),
                        **one,
                    ), "tune",
                )  # fmt: skip
            trained = placed(
                train(
                    prepared=prepared, energies=preprocessed.outputs["energies"], standing=json.dumps(standing),
                    overrides=tuned.outputs["overrides"] if searches else overrides,
                    max_minutes=max_minutes, nodes=settings.distributed.nodes,
                    processes=settings.distributed.processes, backend=settings.distributed.backend,
                    training_pod=fixed, training_resources=f'{{"memory": "{train_memory}", "gpus": {train_gpus}}}',
                    seconds=settings.timeouts.get("train", 0), strict=settings.strict, **one,
                ), "train",
                # A step that waits for a TrainJob needs no GPUs of its own.
                **({} if settings.trains_in_train_job else {"memory": train_memory, "gpus": train_gpus}),
            )  # fmt: skip
            bundle = trained.outputs["bundle"]
            if settings.distill is not None:
                distilled = placed(
                    distill(
                        bundle=bundle, prepared=prepared,
                        settings=settings.distill.model_dump_json(exclude_defaults=True),
                        checkpoints=settings.checkpoints, strict=settings.strict, **showers, **common,
                    ), "distill",
                )  # fmt: skip
                bundle = distilled.outputs["student"]
            generated = placed(
                generate(bundle=bundle, prepared=prepared, strict=settings.strict, **common),
                "generate",
            )
        judged = placed(
            validate(
                prepared=prepared, generated=dsl.Collected(generated.outputs["generated"]), protocol=protocol,
                **showers, **common,
            ), "validate",
        )  # fmt: skip
        exported = placed(
            export(
                bundles=dsl.Collected(bundle), leaderboard=judged.outputs["leaderboard"], **common
            ), "export",
        )  # fmt: skip
        ready = exported.outputs["exported"]
        if settings.optimise is not None:
            faster = placed(
                optimise(
                    bundle=ready, prepared=prepared,
                    settings=settings.optimise.model_dump_json(exclude_defaults=True), **showers, **common,
                ), "optimise",
            )  # fmt: skip
            ready = faster.outputs["optimised"]
        if deploys:
            deployed = placed(
                deploy_winner(
                    bundle=ready, name=deploy, settings=service,
                    # What a run has put on the cluster cannot come from a cache.
                    run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, **common,
                ), "deploy",
            )  # fmt: skip
        last = placed(
            overview(
                judgement=judged.outputs["judgement"], leaderboard=judged.outputs["leaderboard"], families=families,
                preprocessed=preprocessed.outputs["record"], trained=dsl.Collected(trained.outputs["record"]),
                generated=dsl.Collected(generated.outputs["record"]), judged=judged.outputs["record"],
                exported=exported.outputs["record"],
                **({"distilled": dsl.Collected(distilled.outputs["record"])} if settings.distill is not None else {}),
                **({"tuned": dsl.Collected(tuned.outputs["record"])} if searches else {}),
                **({"optimised": faster.outputs["record"]} if settings.optimise is not None else {}),
                **({"url": deployed.outputs["url"]} if deploys else {}),
                pipeline=settings.name, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, code_version=version,
            ), "overview",
        )  # fmt: skip
        return Results(index=last.outputs["index"], page=last.outputs["page"])

    function = without(steps, unused(settings))
    if settings.webhook is not None:
        function = notified(function, settings)
    pipeline = dsl.pipeline(
        name=settings.name,
        description="From full-simulation calorimeter showers to a validated, exported and served generator.",
        pipeline_config=pipeline_config(settings),
    )(function)
    return name_loop(pipeline)
