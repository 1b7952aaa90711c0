"""The step that searches for the best parameters of one family."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Markdown, Metrics, Model, Output

from caloforge.components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune(
    prepared: Input[Dataset],
    energies: Input[Model],
    tuning: Output[Dataset],
    table: Output[Markdown],
    plots: Output[HTML],
    metrics: Output[Metrics],
    data: str,
    family: str,
    trials: int,
    preset: str = "demo",
    overrides: str = "{}",
    backend: str = "auto",
    settings: str = "{}",
    pod: str = "{}",
    standing: str = "[]",
    seed: int = 0,
    checkpoints: str = "",
    data_sha256: str = "",
    showers: Input[Dataset] = None,
    code_version: str = "",
) -> NamedTuple("Outputs", [("overrides", str), ("record", str)]):  # type: ignore[valid-type]
    """Search on the training and validation splits; the test split stays unseen.

    Args:
        prepared: folder that preprocess wrote.
        energies: trained layer energies of preprocess.
        tuning: folder with overrides.json, trials.json and plots.
        table: all trials, the best first.
        plots: the objective trial by trial, and against the parameters.
        metrics: figures of the best trial.
        data: address of the CaloChallenge HDF5 file.
        family: name of the generator family.
        trials: number of trials; 0 hands the overrides on as they are.
        preset: demo or full.
        overrides: JSON of {family: {setting: value}}; what it sets is not searched.
        backend: local for trials in this task, katib for Jobs, auto for Katib within a pod.
        settings: JSON of TuneSettings.
        pod: JSON of TrialPod, what a trial gets on a cluster.
        standing: JSON of the families that stand on the layer energies.
        seed: seed of the search and of every training.
        checkpoints: folder that outlives the task; empty: none.
        data_sha256: checksum of the file.
        showers: the file that the step convert wrote, in place of data; none without that step.
        code_version: digest of the code; another version makes another cache entry.

    Returns:
        JSON of {family: {setting: value}} for the training, and the record of what was written.
    """
    import json
    from pathlib import Path

    from caloforge.components.artifacts import describe, has_energies, log_scalars, record
    from caloforge.components.task import task
    from caloforge.place import TUNE_BACKENDS, place
    from caloforge.temporary import scratch_folder
    from caloforge.tuning.experiment import TrialPod
    from caloforge.tuning.plots import plots_html
    from caloforge.tuning.result import Tuning, tuning_markdown
    from caloforge.tuning.settings import TuneSettings
    from caloforge.tuning.space import flatten
    from caloforge.tuning.tune import tune as tune_family
    from caloforge.tuning.write import write_tuning

    with task("tune", family), scratch_folder() as scratch:
        chosen = TuneSettings.parse({**json.loads(settings), "backend": backend}, where="tuning")
        mine = json.loads(overrides).get(family)
        shared = family in json.loads(standing) and has_energies(Path(energies.path))
        afar = place(chosen.backend, TUNE_BACKENDS) == "cluster"  # a trial's pod finds artifacts in their store only
        if trials == 0:
            result = Tuning(chosen.objective, maximize=False, trials=[], fixed=flatten(mine or {}))
        else:
            result = tune_family(
                data if showers is None else showers.uri if afar else showers.path,
                Path(checkpoints) / "tuning" / family if checkpoints else scratch / "tuning",
                prepared=prepared.uri if afar else prepared.path,
                energies=(energies.uri if afar else energies.path) if shared else None,
                family=family,
                preset=preset,
                overrides=mine,
                trials=trials,
                backend=chosen.backend,
                pod=TrialPod.parse(json.loads(pod), where="pod"),
                seed=seed,
                **chosen.options(family),
            )
        write_tuning(result, Path(tuning.path))
        Path(table.path).write_text(tuning_markdown(result), encoding="utf-8")
        Path(plots.path).write_text(plots_html(result), encoding="utf-8")
        figures = result.best.metrics if result.best else {}
        counts = {"trials": len(result.trials), "given_again": result.given_again}
        log_scalars(metrics, {**figures, **counts}, family=family)
        for name, artifact in {"tuning": tuning, "table": table, "plots": plots}.items():
            describe(artifact, display_name=f"{name} {family}")
        return json.dumps({family: result.overrides()}), record("tune", {"tuning": tuning}, family=family)
