"""The step that searches for the best parameters of one family."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune(
    showers: Input[Dataset],
    prepared: Input[Dataset],
    tuning: Output[Dataset],
    table: Output[Markdown],
    plots: Output[HTML],
    metrics: Output[Metrics],
    family: str,
    preset: str = "demo",
    overrides: str = "{}",
    trials: int = 0,
    backend: str = "auto",
    settings: str = "{}",
    pod: str = "{}",
    seed: int = 0,
    checkpoints: str = "",
    code_version: str = "",
) -> str:
    """Search on the training and validation splits; the test split stays unseen.

    Args:
        showers: CaloChallenge HDF5 file.
        prepared: folder that preprocess wrote.
        tuning: folder with overrides.json, trials.json and plots.
        table: all trials, the best first.
        plots: the objective trial by trial, and against the parameters.
        metrics: figures of the best trial.
        family: name of the generator family.
        preset: demo or full.
        overrides: JSON of {family: {setting: value}}; what it sets is not searched.
        trials: number of trials; 0 hands the overrides on as they are.
        backend: local for trials in this task, katib for Jobs, auto for Katib within a pod.
        settings: JSON of TuneSettings.
        pod: JSON of TrialPod, what a trial gets on a cluster.
        seed: seed of the search and of every training.
        checkpoints: folder that outlives the task; empty: none.
        code_version: digest of the code; another version makes another cache entry.

    Returns:
        JSON of {family: {setting: value}} for the training.
    """
    import json
    import tempfile
    from pathlib import Path

    from caloforge.components.artifacts import log_scalars
    from caloforge.components.task import task
    from caloforge.files import write_json

    with task("tune", family), tempfile.TemporaryDirectory() as scratch:
        if trials == 0:
            write_json(Path(tuning.path) / "trials.json", [])
            for artifact in (table, plots):
                Path(artifact.path).write_text("No search: the number of trials is 0.\n")
            log_scalars(metrics, {})
            return overrides

        from caloforge.tuning.experiment import TrialPod
        from caloforge.tuning.plots import plots_html
        from caloforge.tuning.result import tuning_markdown, write_tuning
        from caloforge.tuning.settings import TuneSettings
        from caloforge.tuning.tune import on_cluster
        from caloforge.tuning.tune import tune as tune_family

        chosen = TuneSettings.parse({**json.loads(settings), "backend": backend}, where="tuning")
        # A trial's pod finds the artifacts in their store only.
        place = "uri" if on_cluster(chosen.backend) else "path"
        result = tune_family(
            getattr(showers, place),
            Path(checkpoints) / "tuning" / family if checkpoints else Path(scratch),
            prepared=getattr(prepared, place),
            family=family,
            preset=preset,
            overrides=json.loads(overrides).get(family),
            trials=trials,
            backend=chosen.backend,
            pod=TrialPod.parse(json.loads(pod), where="pod"),
            seed=seed,
            **chosen.options(family),
        )
        write_tuning(result, Path(tuning.path))
        Path(table.path).write_text(tuning_markdown(result))
        Path(plots.path).write_text(plots_html(result))
        log_scalars(metrics, {**result.ranked[0].metrics, "trials": len(result.trials)})
        return json.dumps({family: result.overrides()})
