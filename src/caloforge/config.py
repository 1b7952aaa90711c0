"""Typed settings: frozen, checked on load, with the nearest valid key in the message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, Union, cast, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from caloforge.errors import InputError, unknown_name
from caloforge.yaml_file import read_yaml

_LONGEST_NAME = 200


def _on_one_line(name: str) -> str:
    if not name.isprintable() or len(name) > _LONGEST_NAME:
        text = "expected a name of at most {most} characters on one line"
        raise PydanticCustomError("name", text, {"most": _LONGEST_NAME})
    return name


OneLine = Annotated[str, AfterValidator(_on_one_line)]
"""A name that logs, labels and tables repeat as it is."""


class Config(BaseModel):
    """Base of every settings class: immutable; unknown keys, and numbers that are none, are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``seed: true``, which pydantic takes for 1."""
        if _truth_for_number(value, cls.model_fields[str(info.field_name)].annotation):
            raise PydanticCustomError("bool_for_number", "expected a number, got true or false")
        return value

    @classmethod
    def parse(cls, values: Any, *, where: str) -> Self:
        """Check a mapping and return the settings.

        Args:
            values: a mapping of keys to values, as read from JSON or YAML.
            where: the file or option they came from, for the message.

        Raises:
            InputError: a key is unknown (nearest valid keys given), missing, or a value is wrong.
        """
        if not isinstance(values, dict):
            raise InputError(f"{where}: expected keys and values, got {type(values).__name__}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, _keys(first["loc"], values, missing=first["type"] == "missing")))
            if first["type"] == _UNKNOWN_KEY:
                prefix = f"{field}." if field else ""
                key, valid = prefix + first["ctx"]["key"], [prefix + name for name in first["ctx"]["valid"]]
                raise InputError(f"{where}: {unknown_name('key', key, valid)}") from None
            if first["type"] == "extra_forbidden":
                valid = _keys_beside(cls, first["loc"])
                raise InputError(f"{where}: {unknown_name('key', field, valid)}") from None
            place = f"{where}: {field}" if field else where
            raise InputError(f"{place}: {_told(first)}") from None

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read the settings from a YAML file; an empty file gives the defaults."""
        values = read_yaml(path)
        return cls.parse(values if values is not None else {}, where=str(path))


def _told(error: ErrorDetails) -> str:
    """Return pydantic's message, but without names of classes, which say nothing to who wrote a file."""
    if error["type"] in _NO_MAPPING:
        return f"expected keys and values, got {type(error['input']).__name__}"
    return error["msg"]


def _keys(location: tuple[int | str, ...], values: Any, *, missing: bool) -> Iterator[int | str]:
    """Yield the keys of a place in some values: pydantic puts names of its types and validators between them.

    Args:
        location: as pydantic has it.
        values: what was checked.
        missing: the last key is not there.
    """
    last = len(location) - 1
    for place, part in enumerate(location):
        if (isinstance(values, Mapping) and part in values) or (
            isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        ):
            values = cast("Any", values)[part]
        elif not (missing and place == last):
            continue
        yield part


def _truth_for_number(value: Any, kind: Any) -> bool:
    """Return whether true or false stands where a field's type wants a number, also within a map or list."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, bool):
        return bool({int, float} & {*kinds}) and bool not in kinds and Any not in kinds
    inner = {get_origin(one): get_args(one)[-1 if get_origin(one) is dict else 0] for one in kinds if get_args(one)}
    if isinstance(value, dict) and dict in inner:
        return any(_truth_for_number(one, inner[dict]) for one in value.values())
    if isinstance(value, list | tuple):
        return any(_truth_for_number(one, inner[kind]) for kind in (list, tuple) if kind in inner for one in value)
    return False


_UNKNOWN_KEY = "unknown_key"
_NO_MAPPING = ("model_type", "model_attributes_type", "dict_type", "dataclass_type")


def unknown_key(key: str, settings: type[BaseModel]) -> PydanticCustomError:
    """Return the error for a key that some settings do not have, for validators whose class is found at run time."""
    valid = list(settings.model_fields)
    return PydanticCustomError(_UNKNOWN_KEY, "unknown key {key}", {"key": key, "valid": valid})


def _keys_beside(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the full names of the keys that are valid where an unknown one was found."""
    prefix: list[str] = []
    for part in location[:-1]:
        field = cls.model_fields.get(str(part))
        kinds = () if field is None else get_args(field.annotation) or (field.annotation,)  # without "or None"
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if len(inner) != 1:
            break
        cls = inner[0]
        prefix.append(str(part))
    return [".".join([*prefix, name]) for name in cls.model_fields]
