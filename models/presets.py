"""Resolve a family, a preset and overrides into one complete, checked configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from caloforge.errors import InputError, unknown_name
from caloforge.models.configuration import FamilyConfig, TrainingConfig
from caloforge.models.registries import FAMILIES, PRESETS

_CHOICES = ("name", "backbone")
"""Keys that choose one of a registry: settings of another choice do not outlive a new one."""

_CLOSE = 0.75
"""Names more alike than this are taken for a misspelling."""


ENDLESS = 1_000_000_000
"""Steps that no time limit is long enough for."""


def check_names(family: str, preset: str) -> None:
    """Refuse an unknown family or preset; imports nothing.

    Raises:
        InputError: one is unknown (with the nearest valid names).
    """
    FAMILIES.check(family)
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)


def resolve(family: str, preset: str, overrides: Mapping[str, Any] | None = None) -> FamilyConfig:
    """Return the configuration of a family in a preset, changed by overrides.

    It is the family's own defaults, then what the preset says of the family, then the overrides. Nothing is
    trained or built; only the modules of the family and of its pieces are imported.

    Args:
        family: name of the family.
        preset: ``demo`` or ``full``.
        overrides: nested mapping, e.g. ``{"training": {"learning_rate": 1e-3}}``.

    Returns:
        An instance of the family's ``Config``.

    Raises:
        InputError: unknown family, preset or key (with the nearest valid names, and where a key that is
            elsewhere belongs), a bad value, or pieces that do not fit each other.
    """
    check_names(family, preset)
    found = FAMILIES.get(family)
    values = _preset_values(family, preset)
    where = f"{family} ({preset})"
    if overrides is not None and not isinstance(overrides, Mapping):
        raise InputError(f"overrides of {family}: expected keys and values, got {overrides!r}")
    _check_places(family, values, overrides or {})
    merged = _merge(values, overrides or {})
    config = found.Config.parse({**merged, "family": family, "preset": preset}, where=where)
    found.check(config)
    return config


def endless(family: str, preset: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return overrides with so many steps in each training of a family that only a time limit ends it.

    The learning rate follows the clock then, and is zero at the end. Takes what :func:`resolve` takes.
    """
    config = resolve(family, preset, overrides)
    stages = {name: {"steps": ENDLESS} for name, value in config if isinstance(value, TrainingConfig)}
    return _merge(overrides or {}, stages)


def energies_training(preset: str, overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Return how a preset trains the layer energies, changed by overrides.

    Raises:
        InputError: unknown preset or key, or a bad value.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    values = _merge(_read_preset(preset)["energies"], overrides or {})
    return TrainingConfig.parse(values, where=f"layer energies ({preset})")


def _preset_values(family: str, preset: str) -> dict[str, Any]:
    """Return the family's own defaults with the preset's changes on top."""
    settings = FAMILIES.get(family).Config
    values = settings(family=family, preset=preset).model_dump(exclude={"family", "preset"})
    content = _read_preset(preset)
    if "energies" in values:
        values["energies"] = _merge(values["energies"], content["energies"])
    return _merge(values, content.get(family, {}))


def _check_places(family: str, values: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuse keys at the top that the family does not have, and say where they belong.

    Args:
        family: its name.
        values: what the overrides are to change.
        overrides: the changes.
    """
    for key, change in overrides.items():
        if key not in values:
            places = _places(str(key), values)
            if not places:
                raise InputError(f"{family}: {unknown_name('override', key, values)}")
            where = " or ".join(places)
            raise InputError(f"{family}: unknown override {key!r}; it belongs in {where}: {_example(places[0])}")
        if isinstance(values[key], Mapping) and not isinstance(change, Mapping):
            raise InputError(f"{family}: override {key!r}: expected keys and values, got {change!r}")


def _places(key: str, values: Mapping[str, Any]) -> list[str]:
    """Return the dotted paths that end in a key, or in one that it is a misspelling of."""
    leaves = {path: path.rpartition(".")[2] for path in _paths(values) if "." in path}
    if key not in leaves.values() and not difflib.get_close_matches(key, values, n=1, cutoff=_CLOSE):
        key = next(iter(difflib.get_close_matches(key, leaves.values(), n=1, cutoff=_CLOSE)), key)
    return [path for path, leaf in leaves.items() if leaf == key]


def _example(path: str) -> str:
    *groups, name = path.split(".")
    return "".join(f"{{{group}: " for group in groups) + f"{{{name}: ...}}" + "}" * len(groups)


def _paths(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@cache
def _read_preset(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(
        (files("caloforge.models") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    )
    return content


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(change, Mapping) and not _chooses_anew(old, change):
            merged[key] = _merge(old, change)
        else:
            merged[key] = change
    return merged


def _chooses_anew(old: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    return any(key in change and key in old and change[key] != old[key] for key in _CHOICES)
