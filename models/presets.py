"""Resolve a family, a preset and overrides into one complete, checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import Field

from caloforge.config import Config
from caloforge.errors import InputError, unknown_name
from caloforge.models.families import family_class

PRESETS = ("demo", "full")
"""Names of the presets that come with the package."""


class TrainingConfig(Config):
    """How long and how fast a network is trained.

    Attributes:
        steps: training steps; a time limit may end the training before.
        batch_size: showers per step.
        learning_rate: greatest learning rate; it rises over ``warmup`` and falls as a cosine to 0.
        warmup: share of the training over which the learning rate rises.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        ema: decay per step of the averaged weights that the bundle gets.
        checkpoint_seconds: time between checkpoints.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    checkpoint_seconds: float = Field(default=30, ge=0)


class GeneratorConfig(Config):
    """Everything that decides how a generator is built and trained.

    Attributes:
        family: name of the family.
        preset: preset it started from.
        model: the family's hyper-parameters.
        training: training of the voxels.
        energies: training of the layer energies.
    """

    family: str
    preset: str
    model: Config
    training: TrainingConfig
    energies: TrainingConfig


def resolve(family: str, preset: str, overrides: Mapping[str, Any] | None = None) -> GeneratorConfig:
    """Return the configuration of a family in a preset, changed by overrides.

    Args:
        family: name of the family.
        preset: ``demo`` or ``full``.
        overrides: nested mapping with the keys ``model``, ``training`` and ``energies``.

    Raises:
        InputError: unknown family, preset or key (with the nearest valid names), or a bad value.
    """
    model_class = family_class(family).Config
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    content = _read_preset(preset)
    values = {**content[family], "energies": content["energies"]}
    for key, change in (overrides or {}).items():
        if key not in values:
            raise unknown_name("override", key, values)
        if not isinstance(change, Mapping):
            raise InputError(f"override {key!r}: expected keys and values, got {change!r}")
        values[key] = _merge(values[key], change)
    where = f"{family} ({preset})"
    return GeneratorConfig(
        family=family,
        preset=preset,
        model=model_class.parse(values["model"], where=f"{where}: model"),
        training=TrainingConfig.parse(values["training"], where=f"{where}: training"),
        energies=TrainingConfig.parse(values["energies"], where=f"{where}: energies"),
    )


@cache
def _read_preset(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((files("caloforge.models") / "presets" / f"{name}.yaml").read_text())
    return content


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, change) if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return merged
