"""Katib's parameters and algorithms in the terms of Optuna."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from caloforge.errors import InputError
from caloforge.tuning.algorithms import algorithm_names
from caloforge.tuning.space import parse_value


def distributions(parameters: list[dict[str, Any]]) -> dict[str, BaseDistribution]:
    """Return the range of each parameter of an Experiment by its name."""
    return {parameter["name"]: _distribution(parameter) for parameter in parameters}


def sampler(algorithm: Mapping[str, Any], *, number: int) -> BaseSampler:
    """Return what proposes parameters.

    Args:
        algorithm: the Experiment's.
        number: of the trial that it proposes parameters for: one that is proposed after a stop is the one that would
            have been proposed without it.

    Raises:
        InputError: Optuna has nothing like it.
    """
    name = algorithm["algorithmName"]
    settings = {setting["name"]: setting["value"] for setting in algorithm.get("algorithmSettings", [])}
    given = int(settings.pop("random_state", 0))
    if name not in (usable := algorithm_names(local=True)):
        raise InputError(f"algorithm {name!r} cannot be used here; choose one of {', '.join(usable)}")
    seed = int(np.random.SeedSequence([given, number]).generate_state(1)[0])
    if name in ("random", "grid"):  # the grid's points are queued, see grid_points
        return RandomSampler(seed=seed)
    if name == "cmaes":
        return CmaEsSampler(seed=seed, sigma0=float(settings["sigma"]) if "sigma" in settings else None)
    candidates = int(settings.get("n_EI_candidates", settings.get("n_ei_candidates", 24)))
    startup = int(settings.get("n_startup_trials", 10))
    return TPESampler(
        seed=seed, multivariate=name == "multivariate-tpe", n_ei_candidates=candidates, n_startup_trials=startup
    )


def grid_points(ranges: Mapping[str, BaseDistribution], *, seed: int) -> list[dict[str, Any]]:
    """Return all points of a grid in an order drawn at random.

    Raises:
        InputError: a range has no end of values.
    """
    columns = []
    for name, range_ in ranges.items():
        if isinstance(range_, CategoricalDistribution):
            columns.append(list(range_.choices))
        elif isinstance(range_, IntDistribution):
            columns.append(list(range(range_.low, range_.high + 1, range_.step)))
        elif isinstance(range_, FloatDistribution) and range_.step is not None:
            n_steps = round((range_.high - range_.low) / range_.step)
            columns.append([range_.low + i * range_.step for i in range(n_steps + 1)])
        else:
            raise InputError(f"algorithm 'grid': {name} has infinitely many values; give it a step")
    points = [dict(zip(ranges, values, strict=True)) for values in itertools.product(*columns)]
    random.Random(seed).shuffle(points)
    return points


def open_storage(path: Path) -> RDBStorage:
    """Open the data base of a study in a file, which is made if it is not there.

    It does not wait for the disk after each of some twenty changes a trial makes: a search that is
    killed loses nothing by that, only a machine that loses its power may.
    """

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
        connection.execute("PRAGMA synchronous=OFF")
        return connection

    return RDBStorage(f"sqlite:///{path}", engine_kwargs={"creator": connect})


def open_study(storage: RDBStorage, name: str, *, maximize: bool, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """Make a study, or take up one that was stopped: what ran then is queued to run again.

    Args:
        storage: the data base.
        name: of the study.
        maximize: whether more of the objective is better.
        pruner: what stops trials early.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if maximize else "minimize",
        pruner=pruner,
        load_if_exists=True,
    )
    trials = study.get_trials(deepcopy=False)
    queued = [trial.user_attrs.get("name") for trial in trials if trial.state == TrialState.WAITING]
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            if trial.user_attrs.get("name") not in queued:  # this may be stopped in between, too
                study.enqueue_trial(trial.params, user_attrs=trial.user_attrs)
            study.tell(trial.number, state=TrialState.FAIL)
    return study


def _distribution(parameter: Mapping[str, Any]) -> BaseDistribution:
    space, kind = parameter["feasibleSpace"], parameter["parameterType"]
    if kind in ("categorical", "discrete"):
        read = [(text, parse_value(text)) for text in space["list"]]
        return CategoricalDistribution([text if isinstance(value, list) else value for text, value in read])
    form = space.get("distribution", "uniform")
    if form not in ("uniform", "logUniform"):
        raise InputError(f"parameter {parameter['name']!r}: distribution {form} is Katib's only")
    log = form == "logUniform"
    if kind == "int":
        return IntDistribution(int(space["min"]), int(space["max"]), log=log, step=int(space.get("step", 1)))
    step = float(space["step"]) if "step" in space else None
    return FloatDistribution(float(space["min"]), float(space["max"]), log=log, step=step)
