"""Values for the parameters of a compiled pipeline, checked before anything is submitted."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from caloforge.errors import InputError, unknown_name
from caloforge.pipelines.form import OPTIONAL
from caloforge.secrets import find_secrets
from caloforge.yaml_file import parse_yaml

_TYPES: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def split_settings(settings: Sequence[str]) -> dict[str, str]:
    """Return ``name=value`` texts as a mapping.

    Raises:
        InputError: a text has no equals sign, or a name comes twice.
    """
    values: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"{setting!r}: expected name=value")
        if name in values:
            raise InputError(f"parameter {name!r} is given twice")
        values[name] = value
    return values


def check_parameters(pipeline: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in the types that the pipeline takes.

    Args:
        pipeline: specification of the compiled pipeline.
        values: name of a parameter to its value; texts are read as YAML where the type is not text,
            structures become JSON where it is.

    Raises:
        InputError: a parameter is unknown (nearest names given), missing, of another type, or holds a secret.
    """
    inputs = pipeline["root"].get("inputDefinitions", {}).get("parameters", {})
    for name in values:
        if name not in inputs and name in OPTIONAL:
            text = f"parameter {name!r}: the pipeline was compiled without its step; compile it with {OPTIONAL[name]}"
            raise InputError(text)
        if name not in inputs:
            raise unknown_name("parameter", name, inputs)
    for name, definition in inputs.items():
        needed = not definition.get("isOptional") or name == "data"
        if needed and not values.get(name, definition.get("defaultValue")):
            raise InputError(f"parameter {name!r} has no default and is not given; add --set {name}=...")
    for problem in find_secrets(values):
        raise InputError(f"parameter {problem}, and Kubeflow shows parameters; take it from a Secret: secret_env")
    return {name: _converted(name, value, inputs[name]["parameterType"]) for name, value in values.items()}


def _converted(name: str, value: Any, kind: str) -> Any:
    if kind == "STRING":
        return value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str):
        try:
            value = parse_yaml(value, where=name)
        except InputError:
            raise InputError(f"parameter {name!r}: {value[:200]!r} is not of type {kind}") from None
        if kind == "LIST" and isinstance(value, str):
            value = [item.strip() for item in value.split(",")]
    if not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
        raise InputError(f"parameter {name!r}: {value!r} is not of type {kind}")
    return value
