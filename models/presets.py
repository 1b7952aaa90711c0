"""Resolve a family, a preset and overrides into one complete, checked configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from caloforge.config import Config
from caloforge.errors import InputError, unknown_name
from caloforge.models.configuration import FamilyConfig, TrainingConfig
from caloforge.models.registries import FAMILIES, PRESETS

_CHOICES = ("name", "backbone")
"""Keys that choose one of a registry: settings of another choice do not outlive a new one."""


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
    merged = _merge(values, overrides or {})
    _check_places(family, merged, overrides or {}, found.Config)
    config = found.Config.parse({**merged, "family": family, "preset": preset}, where=where)
    found.check(config)
    return config


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


def _check_places(family: str, merged: Mapping[str, Any], overrides: Mapping[str, Any], settings: type[Config]) -> None:
    """Refuse keys at the top that the family does not have, and say where they belong."""
    valid = [name for name in settings.model_fields if name not in FamilyConfig.model_fields]
    for key, value in overrides.items():
        if key not in valid:
            text = f"{family}: {unknown_name('override', key, valid)}"
            known = {name: merged[name] for name in valid if name in merged}
            places = [path for path in _paths(known) if path.rpartition(".")[2] == key]
            if not places and not difflib.get_close_matches(str(key), valid, n=1, cutoff=0.5):
                places = difflib.get_close_matches(str(key), [path.rpartition(".")[2] for path in _paths(known)], n=1)
                places = [path for path in _paths(known) if path.rpartition(".")[2] in places]
            if places:
                text = f"{family}: unknown override {key!r}; it belongs in {' or '.join(places)}: {_example(places[0])}"
            raise InputError(text)
        if isinstance(merged[key], Mapping) and not isinstance(value, Mapping):
            raise InputError(f"{family}: override {key!r}: expected keys and values, got {value!r}")


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
    content: dict[str, Any] = yaml.safe_load((files("caloforge.models") / "presets" / f"{name}.yaml").read_text())
    return content


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(change, Mapping)
        merged[key] = _merge(old, change) if nested and not _chooses_anew(old, change) else change
    return merged


def _chooses_anew(old: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    return any(key in change and key in old and change[key] != old[key] for key in _CHOICES)
