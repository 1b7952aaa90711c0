"""The form that starts a run: the pipeline's parameters, without those that the settings have no use for."""

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any


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
