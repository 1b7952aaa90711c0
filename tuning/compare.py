"""The comparison of families: the same budget, seeds and held-out showers for each, as one Experiment."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from caloforge.errors import InputError
from caloforge.fetch import paths_of
from caloforge.files import write_json
from caloforge.models.presets import check_names, endless, resolve
from caloforge.models.registries import FAMILIES
from caloforge.outputs import outside, own_folder, put_files, refuse_changed
from caloforge.place import place
from caloforge.result_kinds import COMPARISON
from caloforge.steps import step
from caloforge.tuning.ablate import ablate
from caloforge.tuning.choices import load_choices
from caloforge.tuning.comparison import OTHER, FamilyComparison, budget_text, comparison_markdown
from caloforge.tuning.comparison_plot import comparison_html, draw
from caloforge.tuning.experiment import SCRATCH, TrialPod, build_experiment
from caloforge.tuning.objective import TrialFailed, floor_name
from caloforge.tuning.plots import DPI
from caloforge.tuning.space import Categorical, Parameter, SearchSpace, Value, flatten
from caloforge.tuning.trial import HEADLINES
from caloforge.tuning.trial_data import local_data
from caloforge.tuning.trials import run_trials, trial_command

logger = logging.getLogger(__name__)

CompareBackend = Literal["local", "katib", "auto"]
COMPARE_BACKENDS: tuple[str, ...] = get_args(CompareBackend)

FILES = ("comparison.html", "comparison.json", "comparison.md", "comparison.png")

OBJECTIVE = "fpd"
"""What the backend is told to look at; the table has all figures."""


def compare_families(
    showers: str | Path,
    output: Path,
    *,
    budgets: Sequence[float],
    families: Sequence[str] = (),
    seeds: int = 3,
    preset: str = "demo",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    vary: Sequence[str] = (),
    geometry: str | None = None,
    particle: str | None = None,
    prepared: str | Path | None = None,
    parallel: int = 1,
    seed: int = 0,
    backend: CompareBackend = "local",
    pod: TrialPod | None = None,
    overwrite: bool = False,
) -> FamilyComparison:
    """Train families with the same budgets and seeds and judge all on the same held-out showers.

    A budget is CPU time of a training in one thread, or time where it trains on a GPU; nothing else ends a training,
    and each trains all of its parts within it. Judged is the test split, and the floor is the validation split
    against it. Each training is a trial of its own: a stopped comparison goes on when called again.

    Args:
        showers: shower file, a path or an address; on a cluster, as a trial's pod finds it.
        output: folder for ``comparison.md``, ``.html``, ``.json`` and ``.png``, the trials and the prepared data.
        budgets: minutes of each training; several are compared with each other, too.
        families: their names; all that there are without it.
        seeds: trainings of each family with each budget.
        preset: name of the preset.
        overrides: family to changes to its preset.
        vary: ``PATH=VALUE,VALUE,...`` each, for an ablation of every family that has such a setting, in
            ``ablations/FAMILY``; with the smallest budget as wall-clock time.
        geometry: mesh, by name or as a binning XML; the file's own without it.
        particle: which one, where the binning XML has several with as many voxels.
        prepared: folder of the prepared data, a path or an address; without it the showers are prepared first.
        parallel: trials at a time.
        seed: of the split and of the first training; the others have the numbers that follow.
        backend: ``local`` for subprocesses, ``katib`` for a cluster, ``auto`` for Katib within a pod.
        pod: what a trial gets on a cluster.
        overwrite: see :func:`caloforge.outputs.own_folder`.

    Raises:
        InputError: something is wrong with what was given; no trial has started then, or the first ones refused it.
        TrialFailed: no trial gave figures; what there is has been written.
    """
    families = list(families) or list(FAMILIES)
    _check(families, budgets, seeds, preset, overrides or {})
    cluster = place(backend, COMPARE_BACKENDS) == "cluster"
    varied = {family: vary for family in families if vary and _can_vary(family, vary, preset, overrides or {})}
    if vary and not varied:
        raise InputError(f"--vary {vary[0]}: none of {', '.join(families)} has such a setting")
    inputs = outside(output, paths_of(showers, prepared, geometry))
    with step("compare families"), own_folder(output, COMPARISON, inputs=inputs, overwrite=overwrite):
        refuse_changed(output, FILES)
        given: Mapping[str, Any] = {"data": showers, "prepared": prepared, "geometry": geometry, "particle": particle}
        if not cluster:
            given = local_data(showers, prepared, output, geometry=geometry, particle=particle, seed=seed)
        axes: dict[str, list[Value]] = {
            "family": list(families),
            "budget": [budget_text(minutes) for minutes in budgets],
            "seed": list(range(seed, seed + seeds)),
        }
        # What has one value alone is no parameter.
        alone = {name: values[0] for name, values in axes.items() if len(values) == 1}
        changed = {
            f"{family}:{path}": value
            for family in families
            for path, value in flatten((overrides or {}).get(family, {})).items()
        }
        command = trial_command(preset, {"split-seed": seed, **given}, alone, fixed=changed)
        searched: dict[str, Parameter] = {
            name: Categorical(values=tuple(values)) for name, values in axes.items() if len(values) > 1
        }
        trials = len(families) * len(budgets) * seeds
        build = partial(
            build_experiment,
            SearchSpace("", preset, searched),
            objective=OBJECTIVE,
            additional=_printed(),
            algorithm="grid",
            seed=seed,
            trials=trials,
            parallel=parallel,
            max_failed=trials,  # a family that cannot be trained is a result
            command=command,
            output=SCRATCH if cluster else str(output.absolute() / "trials"),
            words=[f"--{name}=${{trialParameters.{name}}}" for name in searched],
        )
        name, pod = "compare-families", pod or TrialPod()
        found = run_trials(build, name, pod, output, cluster=cluster)
        if found.wrong_input:
            raise InputError(found.ended)
        done = [replace(trial, parameters={**alone, **trial.parameters}) for trial in found.trials]
        comparison = FamilyComparison.of(done, families, budgets, seeds=seeds, ended=found.ended)
        ablations = {}
        for family, settings in varied.items():
            logger.info("comparing settings of %s", family)
            ablations[family] = ablate(
                given["data"], output / "ablations" / family, family=family, vary=settings, seeds=max(seeds, 2),
                preset=preset, overrides=(overrides or {}).get(family), geometry=geometry, particle=particle,
                prepared=given["prepared"], parallel=parallel, max_minutes=min(budgets), seed=seed, backend=backend,
                pod=pod,
            )  # fmt: skip
        with put_files(output, COMPARISON) as folder:
            write_json(folder / "comparison.json", comparison.as_dict())
            text = comparison_markdown(comparison, ablations=ablations)
            (folder / "comparison.md").write_text(text, encoding="utf-8")
            draw(comparison).savefig(folder / "comparison.png", dpi=DPI)
            (folder / "comparison.html").write_text(comparison_html(comparison), encoding="utf-8")
        if not any(line.trials for line in comparison.lines):
            causes = [cause for line in comparison.lines for cause in line.causes]
            raise TrialFailed(f"nothing to compare: {found.ended or next(iter(causes), 'see the logs of the trials')}")
    return comparison


def _check(
    families: Sequence[str],
    budgets: Sequence[float],
    seeds: int,
    preset: str,
    overrides: Mapping[str, Mapping[str, Any]],
) -> None:
    """Refuse before any work what no comparison can be made of."""
    if seeds < 1:
        raise InputError(f"seeds must be positive, got {seeds}")
    if not budgets or min(budgets) <= 0:
        raise InputError(f"budgets must be positive numbers of minutes, got {list(budgets)}")
    for what, given in (("family", families), ("budget", [budget_text(minutes) for minutes in budgets])):
        if twice := next((one for place, one in enumerate(given) if one in given[:place]), None):
            raise InputError(f"{what} {twice} is given twice")
    if len(families) * len(budgets) * seeds < 2:
        raise InputError("one training is no comparison; give more families, budgets or seeds")
    for family in families:
        check_names(family, preset)
    for family, changes in overrides.items():
        if family not in families:
            FAMILIES.check(family)
            raise InputError(f"overrides: {family} is none of the families that are compared: {', '.join(families)}")
        endless(family, preset, changes)


def _can_vary(family: str, vary: Sequence[str], preset: str, overrides: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a family has settings; an error that is not about having them is one for every family."""
    own = flatten(resolve(family, preset, overrides.get(family)).model_dump(mode="json"))
    for text in vary:
        path, _, _ = text.partition("=")
        if path == "preprocessing.voxel_scaling":
            if not FAMILIES.get(family).uses_transforms:
                return False
        elif not path.startswith("preprocessing.") and path not in own:
            return False
    load_choices(vary, family=family, preset=preset, overrides=overrides.get(family))
    return True


def _printed() -> list[str]:
    """Return the names of all that a trial prints and that is kept, but for the objective."""
    errors = [f"{name}_error" for name in HEADLINES]
    return [name for name in (*HEADLINES, *errors, *map(floor_name, HEADLINES), *OTHER) if name != OBJECTIVE]
