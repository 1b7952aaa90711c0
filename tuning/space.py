"""What a tuning may change: parameters of a family's configuration and their ranges."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from caloforge.config import Config
from caloforge.errors import InputError, unknown_name
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.yaml_file import read_yaml

Value = bool | int | float | str | list[Any]
"""A value of a parameter; a list only where it is fixed, as the extra terms of a loss."""


class Double(Config):
    """A real number between two bounds.

    Attributes:
        type: ``double``.
        min: least value.
        max: greatest value.
        log: draw its logarithm evenly.
    """

    type: Literal["double"] = "double"
    min: float = Field(allow_inf_nan=False)
    max: float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.min, self.max, log=self.log)
        return self

    def probes(self) -> tuple[Value, ...]:
        """Return values that the configuration must take: the bounds, and a fraction between them."""
        return self.min, self.max, self.min + (self.max - self.min) / math.e


class Int(Config):
    """A whole number between two bounds.

    Attributes:
        type: ``int``.
        min: least value.
        max: greatest value.
        step: distance of neighbouring values.
        log: draw its logarithm evenly; not together with a step.
    """

    type: Literal["int"] = "int"
    min: int
    max: int
    step: int = Field(default=1, gt=0)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_bounds(self.min, self.max, log=self.log)
        if self.log and self.step != 1:
            raise _wrong("log and a step exclude each other")
        if (self.max - self.min) % self.step:
            raise _wrong(f"max must be min plus a multiple of the step {self.step}")
        return self

    def probes(self) -> tuple[Value, ...]:
        """Return values that the configuration must take: the bounds."""
        return self.min, self.max


class Categorical(Config):
    """One of some values.

    Attributes:
        type: ``categorical``.
        values: what to choose from.
    """

    type: Literal["categorical"] = "categorical"
    values: tuple[Value, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len({format_value(value) for value in self.values}) < len(self.values):
            raise _wrong("a value is given twice")
        return self

    def probes(self) -> tuple[Value, ...]:
        """Return values that the configuration must take: all of them."""
        return self.values


Parameter = Double | Int | Categorical
PARAMETER_TYPES: dict[str, type[Parameter]] = {
    "double": Double,
    "int": Int,
    "categorical": Categorical,
}


@dataclass(frozen=True)
class SearchSpace:
    """The parameters of one family that a tuning may change.

    Attributes:
        family: name of the family.
        preset: what the other parameters come from.
        parameters: dotted path in the family's configuration, e.g. ``training.learning_rate``, to
            its range.
    """

    family: str
    preset: str
    parameters: Mapping[str, Parameter]


def load_space(family: str, preset: str, source: Path | Mapping[str, Any] | None = None) -> SearchSpace:
    """Read a search space and check every name and every bound against the family's configuration.

    Args:
        family: name of the family.
        preset: name of the preset that trials start from.
        source: YAML file, or what it would hold; without it the family's own.

    Raises:
        InputError: the file cannot be read, or :func:`parse_space` refuses its content.
    """
    if source is None:
        own = FAMILIES.get(family).space
        if not own:
            raise InputError(f"family {family!r} has no search space of its own; give one with --space")
        return parse_space(dict(own), family=family, preset=preset, where=f"search space of {family}")
    if isinstance(source, Mapping):
        return parse_space(dict(source), family=family, preset=preset, where="search space")
    return parse_space(read_yaml(source), family=family, preset=preset, where=str(source))


def parse_space(values: Any, *, family: str, preset: str, where: str) -> SearchSpace:
    """Check a mapping of paths to ranges and return the search space.

    Raises:
        InputError: a path is not in the family's configuration, a range is empty or has values
            that the configuration does not take.
    """
    if not isinstance(values, dict) or not values:
        raise InputError(f"{where}: expected parameters and their ranges, e.g. {_EXAMPLE}")
    parameters = {}
    for path, content in values.items():
        here = f"{where}: {path}"
        if not isinstance(content, dict) or "type" not in content:
            raise InputError(f"{here}: expected a range with its type, e.g. {_EXAMPLE}")
        if content["type"] not in PARAMETER_TYPES:
            raise InputError(f"{here}: {unknown_name('type', content['type'], PARAMETER_TYPES)}")
        parameters[path] = PARAMETER_TYPES[content["type"]].parse(content, where=here)
        for value in parameters[path].probes():
            try:
                resolve(family, preset, nest({path: value}))
            except InputError as error:
                raise InputError(f"{here}: {error}") from None
    return SearchSpace(family, preset, parameters)


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn dotted paths into the nested mapping that :func:`caloforge.models.presets.resolve` takes.

    Raises:
        InputError: a path leads through another's value.
    """
    nested: dict[str, Any] = {}
    for path, value in values.items():
        *groups, name = str(path).split(".")
        inner = nested
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                raise InputError(f"{path}: {group} has a value of its own")
        if name in inner:
            raise InputError(f"{path}: has values given one by one, and as a whole")
        inner[name] = value
    return nested


def flatten(values: Mapping[str, Any]) -> dict[str, Value]:
    """Turn a nested mapping into dotted paths: the reverse of :func:`nest`."""
    flat: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{path}": inner for path, inner in flatten(value).items()}
        else:
            flat[name] = value
    return flat


def of_family(settings: Iterable[str], family: str) -> list[str]:
    """Return the settings that a family has of ``PATH=VALUE`` for all families and ``FAMILY:PATH=VALUE`` for one."""
    found = []
    for setting in settings:
        owner, colon, _ = setting.partition("=")[0].partition(":")
        if not colon:
            found.append(setting)
        elif owner == family:
            found.append(setting.removeprefix(f"{owner}:"))
    return found


def format_value(value: Value) -> str:
    """Write a value as text that :func:`parse_value` reads back."""
    return value if isinstance(value, str) else json.dumps(value)


def parse_value(text: str) -> Value:
    """Read a value that came as text: a number or truth value where it looks like one."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, bool | int | float | str | list) else text


_EXAMPLE = "training.learning_rate: {type: double, min: 1.0e-4, max: 1.0e-2, log: true}"


def _check_bounds(low: float, high: float, *, log: bool) -> None:
    if low >= high:
        raise _wrong(f"min {low:g} must be less than max {high:g}")
    if log and low <= 0:
        raise _wrong(f"min {low:g} must be positive, because its logarithm is drawn")


def _wrong(text: str) -> PydanticCustomError:
    # A plain ValueError's text would get pydantic's own prefix.
    return PydanticCustomError("range", "{text}", {"text": text})
