"""The search algorithms that Katib has, and what each of them can search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caloforge.errors import InputError, unknown_name
from caloforge.tuning.space import Categorical, Double, Parameter


@dataclass(frozen=True)
class Algorithm:
    """A search algorithm of Katib's default configuration.

    Attributes:
        settings: names of the settings that Katib's service takes; it refuses others only once
            the experiment runs.
        local: whether it can be run here.
        cluster: whether it fits trials that start anew and take all parameters from their command.
    """

    settings: frozenset[str] = frozenset()
    local: bool = False
    cluster: bool = True


ALGORITHMS: dict[str, Algorithm] = {
    "random": Algorithm(frozenset({"random_state"}), local=True),
    "tpe": Algorithm(frozenset({"gamma", "n_EI_candidates", "prior_weight", "random_state"}), local=True),
    "multivariate-tpe": Algorithm(frozenset({"n_ei_candidates", "n_startup_trials", "random_state"}), local=True),
    "grid": Algorithm(frozenset({"random_state"}), local=True),
    "cmaes": Algorithm(frozenset({"random_state", "restart_strategy", "sigma"}), local=True),
    "bayesianoptimization": Algorithm(
        frozenset({"acq_func", "acq_optimizer", "base_estimator", "n_initial_points", "random_state"})
    ),
    "hyperband": Algorithm(frozenset({"eta", "r_l", "resource_name"}), cluster=False),
    "sobol": Algorithm(),
    "pbt": Algorithm(
        frozenset({"n_population", "resample_probability", "suggestion_trial_dir", "truncation_threshold"}),
        cluster=False,
    ),
    "enas": Algorithm(cluster=False),
    "darts": Algorithm(cluster=False),
}
"""Those of Katib 0.19."""


def algorithm_names(*, local: bool) -> list[str]:
    """Return the names of the algorithms that can be used here, or on a cluster."""
    return [name for name, algorithm in ALGORITHMS.items() if (algorithm.local if local else algorithm.cluster)]


def check_algorithm(name: str, parameters: Mapping[str, Parameter], *, local: bool) -> None:
    """Raise InputError for an algorithm that cannot be used, or not with these parameters.

    Args:
        name: of the algorithm.
        parameters: by path.
        local: whether it is to be run here and not on a cluster.
    """
    usable = algorithm_names(local=local)
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, usable)
    if name not in usable:
        where = "here" if local else "with these trials"
        raise InputError(f"algorithm {name!r} cannot be used {where}; choose one of {', '.join(usable)}")
    for path, parameter in parameters.items():
        if name == "grid" and isinstance(parameter, Double):
            raise InputError(f"algorithm 'grid': {path} has infinitely many values; make it int or categorical")
        if name == "cmaes" and isinstance(parameter, Categorical):
            raise InputError(f"algorithm 'cmaes': {path} is categorical; it takes int and double only")
    if name == "cmaes" and len(parameters) < 2:
        raise InputError("algorithm 'cmaes': needs two parameters or more")
