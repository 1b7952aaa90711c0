"""The tuning step: from a shower file to the best parameters of a family."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.pods import in_pod
from caloforge.preprocessing.prepare import prepare
from caloforge.preprocessing.prepared import load_prepared
from caloforge.showers import open_showers
from caloforge.steps import step
from caloforge.tuning.algorithms import check_algorithm
from caloforge.tuning.experiment import SCRATCH, TrialPod, build_experiment
from caloforge.tuning.local import run_experiment
from caloforge.tuning.objective import check_objective, objective_names
from caloforge.tuning.result import Tuning, write_tuning
from caloforge.tuning.space import load_space

Backend = Literal["local", "katib", "auto"]

logger = logging.getLogger(__name__)


def tune(
    showers: Path,
    output: Path,
    *,
    family: str,
    trials: int,
    preset: str = "demo",
    geometry: str | None = None,
    parallel: int = 1,
    algorithm: str = "tpe",
    objective: str = "fpd",
    space: Path | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
    backend: Backend = "local",
    pod: TrialPod | None = None,
) -> Tuning:
    """Search for the best parameters of a family; a stopped search goes on when called again.

    Args:
        showers: shower file; with Katib, its path within a trial's pod.
        output: folder for the results (see :func:`caloforge.tuning.result.write_tuning`), the
            trials and the prepared data.
        family: name of the family.
        trials: number of trials.
        preset: name of the preset that trials start from.
        geometry: mesh, by name or as a binning XML; the file's own without it.
        parallel: trials at a time.
        algorithm: name of the search algorithm.
        objective: name of the figure to minimise.
        space: YAML file of the search space; the family's own without it.
        max_minutes: limit on each trial's training.
        seed: of the data's split, the search and every training.
        backend: ``local`` for subprocesses, ``katib`` for a cluster, ``auto`` for Katib within a
            pod and subprocesses elsewhere.
        pod: what a trial gets on a cluster.

    Raises:
        InputError: something is wrong with what was given; no trial has started then.
        TrialFailed: too many trials failed.
    """
    check_objective(objective)
    if max_minutes is not None and max_minutes <= 0:
        raise InputError(f"max_minutes must be positive, got {max_minutes}")
    searched = load_space(family, preset, space)
    on_cluster = backend == "katib" or (backend == "auto" and in_pod())
    check_algorithm(algorithm, searched.parameters, local=not on_cluster)
    pod = pod or TrialPod()
    with step(f"tune {family}"):
        # -P: a folder called caloforge in the current directory is not the package.
        command = ["python", "-P", "-m", "caloforge", "trial", f"--family={family}", f"--preset={preset}"]
        command += [f"--seed={seed}", f"--data={showers if on_cluster else showers.absolute()}"]
        if max_minutes is not None:
            command.append(f"--max-minutes={max_minutes:g}")
        if not on_cluster:
            prepared = prepare_once(showers, output / "prepared", geometry=geometry, seed=seed)
            command.append(f"--prepared={prepared.absolute()}")
        elif geometry is not None:
            command.append(f"--geometry={geometry}")
        experiment = build_experiment(
            searched,
            name=f"tune-{family.replace('_', '-')}",
            objective=objective,
            additional=[name for name in objective_names() if name != objective],
            algorithm=algorithm,
            seed=seed,
            trials=trials,
            parallel=parallel,
            max_failed=max(1, trials // 4),
            command=command,
            output=SCRATCH if on_cluster else str(output.absolute() / "trials"),
            pod=pod,
        )
        result = _on_cluster(experiment, output) if on_cluster else run_experiment(experiment, output)
        write_tuning(result, output)
        best = result.ranked[0]
        logger.info("tune %s: best is %s with %s=%.4g", family, best.name, objective, best.metrics[objective])
    return result


def _on_cluster(experiment: dict[str, Any], output: Path) -> Tuning:
    from caloforge.cluster import connect
    from caloforge.tuning.katib import run_on_katib

    write_json(output / "experiment.json", experiment)
    return run_on_katib(experiment, connect(experiment["metadata"]["namespace"]))


def prepare_once(showers: Path, prepared: Path, *, geometry: str | None, seed: int) -> Path:
    """Prepare a shower file unless that was done in an earlier run, and return the folder."""
    if not prepared.exists():
        prepare(open_showers(showers, geometry), prepared, seed=seed)
    load_prepared(prepared)
    return prepared
