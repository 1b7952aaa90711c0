"""The ablation: choices of preprocessing and training compared at equal budget, one changed at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from caloforge.errors import InputError
from caloforge.fetch import is_remote, paths_of
from caloforge.files import write_json
from caloforge.outputs import outside, own_folder, put_files, refuse_changed
from caloforge.place import place
from caloforge.preprocessing.prepare import PrepareSettings
from caloforge.preprocessing.prepared import load_prepared
from caloforge.result_kinds import ABLATION
from caloforge.steps import step
from caloforge.tuning.ablation import Ablation, ablation_markdown
from caloforge.tuning.ablation_plot import draw
from caloforge.tuning.choices import load_choices
from caloforge.tuning.experiment import SCRATCH, TrialPod, build_experiment
from caloforge.tuning.objective import TrialFailed, floor_name, objective_names
from caloforge.tuning.plots import DPI
from caloforge.tuning.space import Categorical, Int, SearchSpace, flatten
from caloforge.tuning.trial_data import local_data
from caloforge.tuning.trials import run_trials, trial_command

logger = logging.getLogger(__name__)

AblateBackend = Literal["local", "katib", "auto"]
ABLATE_BACKENDS: tuple[str, ...] = get_args(AblateBackend)

FILES = ("ablation.json", "ablation.md", "ablation.png")

OBJECTIVE = "fpd"
"""What the backend is told to look at; the table has all objectives."""


def ablate(
    showers: str | Path,
    output: Path,
    *,
    family: str,
    vary: Sequence[str],
    seeds: int = 3,
    preset: str = "demo",
    overrides: Mapping[str, Any] | None = None,
    geometry: str | None = None,
    particle: str | None = None,
    prepared: str | Path | None = None,
    parallel: int = 1,
    max_minutes: float | None = None,
    seed: int = 0,
    backend: AblateBackend = "local",
    pod: TrialPod | None = None,
    overwrite: bool = False,
) -> Ablation:
    """Train a family with its own settings and with each of some changed, and judge all on the same held-out showers.

    One setting is changed at a time, everything else stays. Each choice is trained with the same seeds, steps or
    minutes, and judged on the validation split; the floor is the test split against it. A stopped ablation goes on
    when called again.

    Args:
        showers: shower file, a path or an address (see :func:`caloforge.fetch.local_copy`); on a
            cluster, as a trial's pod finds it.
        output: folder for ``ablation.md``, ``.json`` and ``.png``, the trials and the prepared data.
        family: name of the family.
        vary: ``PATH=VALUE,VALUE,...`` each; the path leads into the family's configuration, or is
            ``preprocessing.NAME``.
        seeds: trainings of each choice, 2 or more.
        preset: name of the preset.
        overrides: changes to the preset that all choices have.
        geometry: mesh, by name or as a binning XML; the file's own without it.
        particle: which one, where the binning XML has several with as many voxels.
        prepared: folder of the prepared data, a path or an address; without it the showers are prepared first. Where
            the preprocessing is varied, they are prepared again with the same showers held out.
        parallel: trials at a time.
        max_minutes: limit on each training.
        seed: of the split and of the first training; the others have the numbers that follow.
        backend: ``local`` for subprocesses, ``katib`` for a cluster, ``auto`` for Katib within a pod.
        pod: what a trial gets on a cluster.
        overwrite: see :func:`caloforge.outputs.own_folder`.

    Raises:
        InputError: something is wrong with what was given; no trial has started then, or the first ones refused it.
        TrialFailed: no trial of the own settings, or of no choice, gave figures; what there is has been written.
    """
    if seeds < 2:
        raise InputError(f"seeds must be 2 or more, to know the error, got {seeds}")
    if max_minutes is not None and max_minutes <= 0:
        raise InputError(f"max_minutes must be positive, got {max_minutes}")
    cluster = place(backend, ABLATE_BACKENDS) == "cluster"
    settings = None
    if prepared is not None and not is_remote(str(prepared)):
        settings = PrepareSettings.parse(load_prepared(Path(prepared)).record["settings"], where=str(prepared))
    choices = load_choices(vary, family=family, preset=preset, overrides=overrides, settings=settings)
    space = SearchSpace(
        family, preset, {"choice": Categorical(values=choices.labels), "seed": Int(min=seed, max=seed + seeds - 1)}
    )
    inputs = outside(output, paths_of(showers, prepared, geometry))
    with step(f"ablate {family}"), own_folder(output, ABLATION, inputs=inputs, overwrite=overwrite):
        refuse_changed(output, FILES)
        given: Mapping[str, Any] = {"data": showers, "prepared": prepared, "geometry": geometry, "particle": particle}
        if not cluster:
            given = local_data(showers, prepared, output, geometry=geometry, particle=particle, seed=seed)
        options: dict[str, Any] = {"family": family, "floors": True, "split-seed": seed, **given}
        if max_minutes is not None:
            options["max-minutes"] = f"{max_minutes:g}"
        command = trial_command(preset, options, fixed=flatten(overrides or {}))
        n = len(choices.labels) * seeds
        figures = [name for name in objective_names() if name != OBJECTIVE]
        build = partial(
            build_experiment,
            space,
            objective=OBJECTIVE,
            additional=[*figures, *map(floor_name, objective_names())],
            algorithm="grid",
            seed=seed,
            trials=n,
            parallel=parallel,
            max_failed=n,  # a choice that cannot be trained is a result
            command=command,
            output=SCRATCH if cluster else str(output.absolute() / "trials"),
            words=["--set=${trialParameters.choice}", "--seed=${trialParameters.seed}"],
        )
        name, pod = f"ablate-{family.replace('_', '-')}", pod or TrialPod()
        found = run_trials(build, name, pod, output, cluster=cluster)
        if found.wrong_input:
            raise InputError(found.ended)
        ablation = Ablation.of(found.trials, choices, family=family, seeds=seeds, ended=found.ended)
        with put_files(output, ABLATION) as folder:
            write_json(folder / "ablation.json", ablation.as_dict())
            (folder / "ablation.md").write_text(ablation_markdown(ablation), encoding="utf-8")
            draw(ablation).savefig(folder / "ablation.png", dpi=DPI)
        own, *others = ablation.lines
        if not own.trials or not any(line.trials for line in others):
            causes = [cause for line in ablation.lines for cause in line.causes]
            raise TrialFailed(f"nothing to compare: {found.ended or next(iter(causes), 'see the logs of the trials')}")
    return ablation
