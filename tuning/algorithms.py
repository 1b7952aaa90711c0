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
    """

    settings: frozenset[str] = frozenset()
    local: bool = False


ALGORITHMS: dict[str, Algorithm] = {
    "random": Algorithm(frozenset({"random_state"}), local=True),
    "tpe": Algorithm(frozenset({"gamma", "n_EI_candidates", "prior_weight", "random_state"}), local=True),
    "multivariate-tpe": Algorithm(frozenset({"n_ei_candidates", "n_startup_trials", "random_state"}), local=True),
    "grid": Algorithm(frozenset({"random_state"}), local=True),
    "cmaes": Algorithm(frozenset({"random_state", "restart_strategy", "sigma"}), local=True),
    "bayesianoptimization": Algorithm(
        frozenset({"acq_func", "acq_optimizer", "base_estimator", "n_initial_points", "random_state"})
    ),
    "hyperband": Algorithm(frozenset({"eta", "r_l", "resource_name"})),
    "sobol": Algorithm(),
    "pbt": Algorithm(
        frozenset({"n_population", "resample_probability", "suggestion_trial_dir", "truncation_threshold"})
    ),
    "enas": Algorithm(),
    "darts": Algorithm(),
}
"""Those of Katib 0.19."""


def local_names() -> list[str]:
    """Return the names of the algorithms that can be run here."""
    return [name for name, algorithm in ALGORITHMS.items() if algorithm.local]


def check_algorithm(name: str, parameters: Mapping[str, Parameter]) -> None:
    """Raise InputError for an algorithm that cannot be run here, or not with these parameters."""
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, local_names())
    if not ALGORITHMS[name].local:
        raise InputError(f"algorithm {name!r} is Katib's only; choose one of {', '.join(local_names())}")
    for path, parameter in parameters.items():
        if name == "grid" and isinstance(parameter, Double):
            raise InputError(f"algorithm 'grid': {path} has infinitely many values; make it int or categorical")
        if name == "cmaes" and isinstance(parameter, Categorical):
            raise InputError(f"algorithm 'cmaes': {path} is categorical; it takes int and double only")
    if name == "cmaes" and len(parameters) < 2:
        raise InputError("algorithm 'cmaes': needs two parameters or more")
