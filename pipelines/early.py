"""Find what a step would refuse, before the steps before it have run for hours."""

from collections.abc import Mapping, Sequence
from typing import Any

from caloforge.errors import InputError
from caloforge.models.configuration import DistillSettings
from caloforge.place import TUNE_BACKENDS, place
from caloforge.tuning.settings import TuneSettings


def check_overrides(preset: str, overrides: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse changes to a family's configuration that its training would refuse.

    Raises:
        InputError: a key or value is wrong; the message says where a misplaced one belongs.
    """
    if not overrides:
        return  # what follows imports torch
    from caloforge.models.presets import resolve

    for family, changes in overrides.items():
        resolve(family, preset, changes)


def check_search(
    tuning: TuneSettings, families: Sequence[str], preset: str, overrides: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuse a search that its step would refuse: objective, algorithm, spaces, backend.

    Raises:
        InputError: something is unknown, or does not go together.
    """
    if not tuning.trials:
        return
    from caloforge.tuning.algorithms import check_algorithm
    from caloforge.tuning.objective import check_objective
    from caloforge.tuning.space import flatten, load_space

    check_objective(tuning.objective)
    if tuning.early_stopping and tuning.backend == "optimizationjob":
        raise InputError("tuning: an OptimizationJob stops no trials early; use the backend katib or local")
    for family in families:
        space = load_space(family, preset, tuning.spaces.get(family))
        left = {path: one for path, one in space.parameters.items() if path not in flatten(overrides.get(family, {}))}
        if not left:
            raise InputError(
                f"tuning: {family}: the overrides leave nothing to search of {', '.join(space.parameters)}"
            )
        check_algorithm(tuning.algorithm, left, local=place(tuning.backend, TUNE_BACKENDS, inside=True) == "local")


def check_distillation(
    settings: DistillSettings | None, families: Sequence[str], preset: str, overrides: Mapping[str, Any]
) -> None:
    """Refuse students that the step distill would refuse, once all trainings are done.

    Raises:
        InputError: no family takes steps, or one cannot be distilled to so few.
    """
    if settings is None:
        return
    from caloforge.models.few_steps.plan import plan, steps_of
    from caloforge.models.presets import resolve

    found = {name: resolve(name, preset, overrides.get(name)) for name in families}
    stepped = {name: config for name, config in found.items() if steps_of(config) is not None}
    if not stepped:
        raise InputError(f"distill: none of the families takes steps ({', '.join(families)}); leave it out")
    for name, config in stepped.items():
        plan(config, settings, where=f"distill: {name}")
