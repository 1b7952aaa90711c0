"""The tuning step: from a shower file to the best parameters of a family."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from caloforge.errors import InputError
from caloforge.fetch import local_copy, paths_of
from caloforge.files import write_json
from caloforge.models.presets import energies_training, resolve
from caloforge.models.registries import FAMILIES
from caloforge.outputs import outside, own_folder, refuse_changed
from caloforge.place import TUNE_BACKENDS, TuneBackend, place
from caloforge.pods import digest_of
from caloforge.result_kinds import TUNING
from caloforge.steps import step
from caloforge.tuning.algorithms import check_algorithm
from caloforge.tuning.experiment import LOOKS, SCRATCH, TrialPod, build_experiment
from caloforge.tuning.objective import TrialFailed, check_objective, objective_names
from caloforge.tuning.result import Tuning
from caloforge.tuning.space import SearchSpace, Value, flatten, load_space, nest
from caloforge.tuning.trial_data import local_data
from caloforge.tuning.trials import run_trials, trial_command
from caloforge.tuning.write import FILES, write_tuning

logger = logging.getLogger(__name__)


ENERGIES = "energies"
"""Part of a family's settings, and of a tuning's folder, that the layer energies have."""


def tune(
    showers: str | Path,
    output: Path,
    *,
    family: str,
    trials: int,
    preset: str = "demo",
    overrides: Mapping[str, Any] | None = None,
    geometry: str | None = None,
    particle: str | None = None,
    prepared: str | Path | None = None,
    energies: str | Path | None = None,
    parallel: int = 1,
    algorithm: str = "tpe",
    objective: str = "fpd",
    space: Path | Mapping[str, Any] | None = None,
    max_minutes: float | None = None,
    timeout_minutes: float | None = None,
    early_stopping: bool = False,
    seed: int = 0,
    backend: TuneBackend = "local",
    pod: TrialPod | None = None,
    required: bool = True,
    overwrite: bool = False,
) -> Tuning:
    """Search for the best parameters of a family; a stopped search goes on when called again.

    What the overrides set is not searched: all trials have it, and so has the result. A search that ends early
    (too many trials failed, the time was up, the cluster was away for too long) gives the best of what it has.

    Args:
        showers: shower file, a path or an address (see :func:`caloforge.fetch.local_copy`); on a
            cluster, as a trial's pod finds it.
        output: folder for the results (see :func:`caloforge.tuning.write.write_tuning`), the
            trials and the prepared data.
        family: name of the family.
        trials: number of trials.
        preset: name of the preset that trials start from.
        overrides: changes to the preset, the same for all trials.
        geometry: mesh, by name or as a binning XML; the file's own without it.
        particle: which one, where the binning XML has several with as many voxels.
        prepared: folder of the prepared data, a path or an address like ``showers``; without it the
            showers are prepared first.
        energies: folder of trained layer energies, a path or an address like ``showers``, that all trials stand on
            unless the search or the overrides touch how they are trained. Without it a search on this machine trains
            them once, and on a cluster each trial its own.
        parallel: trials at a time.
        algorithm: name of the search algorithm.
        objective: name of the figure to minimise.
        space: search space, or its YAML file; without it the family's own.
        max_minutes: limit on each trial's training.
        timeout_minutes: limit on the search; the trials that are done by then must do.
        early_stopping: end trials that are worse than the median of others at the same point.
        seed: of the data's split, the search and every training.
        backend: ``local`` for subprocesses, ``katib`` and ``optimizationjob`` for a cluster, ``auto``
            for Katib within a pod and subprocesses elsewhere.
        pod: what a trial gets on a cluster.
        required: whether a search that finds nothing is an error; without it the result has no best trial, and
            the family its own parameters.
        overwrite: see :func:`caloforge.outputs.own_folder`.

    Raises:
        InputError: something is wrong with what was given; no trial has started then, or the first ones refused it.
        TrialFailed: no trial gave a figure, and one is required; what there is has been written.
    """
    check_objective(objective)
    for name, minutes in (("max_minutes", max_minutes), ("timeout_minutes", timeout_minutes)):
        if minutes is not None and minutes <= 0:
            raise InputError(f"{name} must be positive, got {minutes}")
    resolve(family, preset, overrides)
    fixed = flatten(overrides or {})
    searched = _without(load_space(family, preset, space), fixed)
    cluster = place(backend, TUNE_BACKENDS) == "cluster"
    check_algorithm(algorithm, searched.parameters, local=not cluster)
    if early_stopping and backend == "optimizationjob":
        raise InputError("an OptimizationJob stops no trials early; use the backend katib or local")
    pod = pod or TrialPod()
    inputs = outside(output, paths_of(showers, prepared, energies, geometry))
    inputs += [space] if isinstance(space, Path) else []
    with step(f"tune {family}"), own_folder(output, TUNING, inputs=inputs, overwrite=overwrite):
        refuse_changed(output, FILES)
        if any(map(_of_energies, (*searched.parameters, *fixed))):
            energies = None
        data: dict[str, Any] = {"data": showers, "prepared": prepared, "geometry": geometry, "particle": particle}
        if not cluster:
            data = local_data(showers, prepared, output, geometry=geometry, particle=particle, seed=seed)
            if energies is not None:
                energies = local_copy(str(energies), output / "data").absolute()
            elif _alike(family, preset, searched, nest(fixed)):
                changes, energies = nest(fixed).get(ENERGIES), (output / ENERGIES).absolute()
                energies_once(data, energies, preset=preset, overrides=changes, seed=seed, max_minutes=max_minutes)
        options: dict[str, Any] = {"family": family, "seed": seed, **data, "energies": energies}
        if max_minutes is not None:
            options["max-minutes"] = f"{max_minutes:g}"
        if early_stopping:
            options |= {"objective": objective, "looks": LOOKS}
        command = trial_command(preset, options, fixed=fixed)
        search: dict[str, Any] = {
            "objective": objective, "algorithm": algorithm, "seed": seed, "trials": trials, "parallel": parallel,
        }  # fmt: skip
        name = f"tune-{family.replace('_', '-')}"
        timeout = None if timeout_minutes is None else 60 * timeout_minutes
        if backend == "optimizationjob":
            result = _on_trainer(searched, name, pod, output, command, search, timeout=timeout)
        else:
            build = partial(
                build_experiment,
                searched,
                **search,
                additional=[other for other in objective_names() if other != objective],
                max_failed=max(1, trials // 4),
                command=command,
                output=SCRATCH if cluster else str(output.absolute() / "trials"),
                early_stopping=early_stopping,
            )
            result = run_trials(build, name, pod, output, cluster=cluster, timeout=timeout)
        result = replace(result, fixed=fixed)
        write_tuning(result, output)
        if result.best is None and required:
            if result.wrong_input:
                raise InputError(result.ended)
            raise TrialFailed(f"no trial gave {objective}: {_reason(result)}")
        log = logger.info if result.best else logger.warning
        log("tune %s: %s", family, result.summary())
    return result


def energies_once(data: Mapping[str, Path], energies: Path, *, max_minutes: float | None, **options: Any) -> None:
    """Train the layer energies of all trials unless that was done in an earlier run.

    Args:
        data: paths of the showers, ``data``, and of the folder ``prepared``.
        energies: folder to write.
        max_minutes: limit on each trial's training, of which they get their share.
        options: of :func:`caloforge.models.training.energies.train_energies`.
    """
    from caloforge.models.training.energies import train_energies
    from caloforge.models.voxel_family import ENERGY_SHARE

    if not energies.exists():
        minutes = None if max_minutes is None else ENERGY_SHARE * max_minutes
        train_energies(data["data"], data["prepared"], energies, **options, max_minutes=minutes)


def _alike(family: str, preset: str, space: SearchSpace, overrides: Mapping[str, Any]) -> bool:
    """Return whether all trials of a family have layer energies and would train the same ones, as a preset does."""
    if not FAMILIES.get(family).uses_layer_energies or any(map(_of_energies, space.parameters)):
        return False
    config: Any = resolve(family, preset, overrides)
    return bool(config.energies == energies_training(preset, overrides.get(ENERGIES)))


def _of_energies(path: str) -> bool:
    return path.partition(".")[0] == ENERGIES


def _without(space: SearchSpace, fixed: Mapping[str, Value]) -> SearchSpace:
    """Return a search space without the parameters that have a value already."""
    left = {path: parameter for path, parameter in space.parameters.items() if path not in fixed}
    if not left:
        raise InputError(f"nothing is left to search: the overrides set {', '.join(space.parameters)}")
    return replace(space, parameters=left)


def _reason(result: Tuning) -> str:
    """Return why a search found nothing."""
    causes = [trial.cause for trial in result.trials if trial.cause]
    return result.ended or next(iter(causes), "see the logs of its trials")


def _on_trainer(
    space: SearchSpace,
    name: str,
    pod: TrialPod,
    output: Path,
    command: Sequence[str],
    search: dict[str, Any],
    *,
    timeout: float | None,
) -> Tuning:
    from caloforge.cluster import connect
    from caloforge.tuning.optimization_job import build_optimization_job
    from caloforge.tuning.trainer import run_on_trainer

    cluster = connect(pod.namespace or None)
    # Each trial has a pod and a disk of its own.
    build = partial(build_optimization_job, space, command=[*command, f"--output={SCRATCH}/trial"], pod=pod, **search)
    job = build(name=f"{name}-{digest_of(build(name=name))[:8]}")
    write_json(output / "optimization_job.json", job)
    return run_on_trainer(job, cluster, timeout=timeout)
