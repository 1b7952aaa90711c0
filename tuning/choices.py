"""What an ablation compares: the family's own settings, and the same with one of them changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from caloforge.errors import InputError
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES
from caloforge.preprocessing.prepare import PrepareSettings
from caloforge.tuning.space import Value, flatten, format_value, nest, parse_value

PREPROCESSING = "preprocessing"
"""First word of the paths of settings of the preprocessing; all others are the family's."""

_SPLITS = ("test_fraction", "validation_fraction")
_EXAMPLE = "preprocessing.voxel_scaling=logit,power"


@dataclass(frozen=True)
class Choice:
    """One setting with one value.

    Attributes:
        path: dotted path in the family's configuration, or ``preprocessing.NAME``.
        value: what it is set to.
    """

    path: str
    value: Value

    @property
    def label(self) -> str:
        """``PATH=VALUE``."""
        return f"{self.path}={format_value(self.value)}"


@dataclass(frozen=True)
class Choices:
    """What is compared.

    Attributes:
        own: a setting with the value that it has anyway: training with it is training with the family's own settings.
        others: each changes one setting.
        own_values: path of each setting that is changed to its own value as text.
    """

    own: Choice
    others: tuple[Choice, ...]
    own_values: Mapping[str, str]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, that of the own settings first."""
        return self.own.label, *(choice.label for choice in self.others)


def load_choices(
    varied: Sequence[str],
    *,
    family: str,
    preset: str,
    overrides: Mapping[str, Any] | None = None,
    settings: PrepareSettings | None = None,
) -> Choices:
    """Read what is to be varied and check every value before anything is trained.

    Args:
        varied: ``PATH=VALUE,VALUE,...`` each; own values among them are no choices of their own.
        family: name of the family.
        preset: name of the preset.
        overrides: changes to the preset that all have.
        settings: of the preprocessing that all have.

    Raises:
        InputError: a path or a value is wrong, is varied twice, makes no difference, or is set by the overrides.
    """
    settings = settings or PrepareSettings()
    fixed = flatten(overrides or {})
    own = flatten(resolve(family, preset, overrides).model_dump(mode="json", exclude={"family", "preset"}))
    own |= flatten({PREPROCESSING: settings.model_dump(mode="json")})
    others: list[Choice] = []
    seen: list[str] = []
    for text in varied:
        path, sign, values = text.partition("=")
        where = f"--vary {path}"
        if not sign or not all(values.split(",")):
            raise InputError(f"--vary {text!r}: expected PATH=VALUE,VALUE,..., e.g. {_EXAMPLE}")
        if path in seen:
            raise InputError(f"{where}: is given twice; put all values into one")
        if path in fixed:
            raise InputError(f"{where}: is set by the overrides, too; leave it out of them, or add their value here")
        seen.append(path)
        for value in map(parse_value, values.split(",")):
            _check(path, value, family=family, preset=preset, fixed=fixed, settings=settings, where=where)
            if value == own.get(path):
                continue
            choice = Choice(path, value)
            if choice in others:
                raise InputError(f"{where}: {format_value(value)} is given twice")
            others.append(choice)
    if not others:
        raise InputError("--vary: all that is given is what the family has anyway; give another value")
    same = next(
        Choice(path, own[path]) for path in (*seen, *own) if isinstance(own.get(path), bool | int | float | str)
    )
    return Choices(same, tuple(others), {path: format_value(own[path]) for path in seen})


def changed_settings(values: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Part settings by dotted paths into those of the preprocessing, by their names, and those of the family."""
    start = f"{PREPROCESSING}."
    ours = {path.removeprefix(start): value for path, value in values.items() if path.startswith(start)}
    return ours, {path: value for path, value in values.items() if not path.startswith(start)}


def _check(
    path: str,
    value: Value,
    *,
    family: str,
    preset: str,
    fixed: Mapping[str, Value],
    settings: PrepareSettings,
    where: str,
) -> None:
    ours, theirs = changed_settings({path: value})
    for name in ours:
        if name in _SPLITS:
            raise InputError(f"{where}: says which showers are judged by, and so must be the same for all")
        PrepareSettings.parse({**settings.model_dump(), name: value}, where=where)
        if name == "voxel_scaling" and not FAMILIES.get(family).uses_transforms:
            raise InputError(f"{where}: makes no difference: family {family!r} does not code voxels")
    try:
        resolve(family, preset, nest({**fixed, **theirs}))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
