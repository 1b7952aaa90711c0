"""Typed settings: frozen, checked on load, with the nearest valid key in the message."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from caloforge.errors import InputError, unknown_name


class Config(BaseModel):
    """Base of every settings class: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
            field = ".".join(str(part) for part in first["loc"])
            if first["type"] == _UNKNOWN_KEY:
                prefix = f"{field}." if field else ""
                key, valid = prefix + first["ctx"]["key"], [prefix + name for name in first["ctx"]["valid"]]
                raise InputError(f"{where}: {unknown_name('key', key, valid)}") from None
            if first["type"] == "extra_forbidden":
                valid = _keys_beside(cls, first["loc"])
                raise InputError(f"{where}: {unknown_name('key', field, valid)}") from None
            raise InputError(f"{where}: {field}: {first['msg']}") from None

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read the settings from a YAML file; an empty file gives the defaults."""
        try:
            values = yaml.safe_load(path.read_text())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a YAML file ({error})") from None
        return cls.parse(values if values is not None else {}, where=str(path))


_UNKNOWN_KEY = "unknown_key"


def unknown_key(key: str, settings: type[BaseModel]) -> PydanticCustomError:
    """Return the error for a key that some settings do not have, for validators whose class is found at run time."""
    valid = list(settings.model_fields)
    return PydanticCustomError(_UNKNOWN_KEY, "unknown key {key}", {"key": key, "valid": valid})


def _keys_beside(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the full names of the keys that are valid where an unknown one was found."""
    prefix: list[str] = []
    for part in location[:-1]:
        field = cls.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            break
        cls = field.annotation
        prefix.append(str(part))
    return [".".join([*prefix, name]) for name in cls.model_fields]
