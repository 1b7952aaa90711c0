"""The form that starts a run: the pipeline's parameters, without those that the settings have no use for."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from caloforge.pipelines.settings import PipelineSettings

OPTIONAL: Mapping[str, str] = {
    "tune_trials": "tuning: {trials: 20}",
    "deploy": "deploy: NAME",
    **dict.fromkeys(("data", "data_sha256", "geometry"), "data, and without simulate"),
}
"""Parameters that a pipeline has only if the settings say what follows."""


_NAMED = ("families", "preset", "protocol")
"""Parameters that name what the package has."""


def unused(settings: PipelineSettings) -> list[str]:
    """Return the parameters that the pipeline of these settings has no use for."""
    used = {"tune_trials": settings.tuning.trials > 0, "deploy": bool(settings.deploy)}
    used |= dict.fromkeys(("data", "data_sha256", "geometry"), settings.simulate is None)
    return [name for name in OPTIONAL if not used[name]]


def with_steps_for(settings: PipelineSettings, values: Mapping[str, Any]) -> PipelineSettings:
    """Return settings whose pipeline has the parameters that are given a value, and the steps that they are for.

    Names that no step would know, and amounts that are none, are refused here, and not when the run has come to
    the step.

    Args:
        settings: of a pipeline that is about to be compiled.
        values: parameter name to value, as for a run.

    Raises:
        InputError: a value is not one for its setting.
    """
    named = {name: values[name] for name in _NAMED if values.get(name)}
    if isinstance(families := named.get("families"), str):
        named["families"] = [one.strip(" '\"") for one in families.strip(" []").split(",")]
    if train := {key: values[f"train_{key}"] for key in ("memory", "gpus") if f"train_{key}" in values}:
        named["resources"] = {"train": train}
    PipelineSettings.parse(named, where="parameters")
    content = settings.model_dump()
    if values.get("tune_trials"):
        content["tuning"]["trials"] = values["tune_trials"]
    if values.get("deploy"):
        content["deploy"] = values["deploy"]
    return PipelineSettings.parse(content, where="parameters")


def without(function: Callable[..., Any], names: Collection[str]) -> Callable[..., Any]:
    """Return a pipeline function that has fewer parameters; those left out keep their defaults.

    kfp makes a run's form from the signature: what a pipeline cannot do should not be asked for.

    Args:
        function: pipeline function whose parameters all have defaults.
        names: parameters to leave out.
    """
    signature = inspect.signature(function)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name not in names]

    @functools.wraps(function)  # kfp reads the description of each parameter from the docstring
    def fewer(*values: Any, **named: Any) -> Any:
        given = inspect.Signature(kept).bind(*values, **named)
        return function(**given.arguments)

    fewer.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    return fewer
