"""What decides how a generator is built and trained: the parts that all families have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from caloforge.config import Config, unknown_key
from caloforge.errors import InputError
from caloforge.fetch import is_remote
from caloforge.registry import Registry


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

    steps: int = Field(default=1000, gt=0)
    batch_size: int = Field(default=64, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip: float = Field(default=5.0, gt=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    checkpoint_seconds: float = Field(default=30, ge=0)


class FamilyConfig(Config):
    """Everything that decides how a generator is built and trained; a family adds its own fields.

    Attributes:
        family: name of the family.
        preset: preset it started from.
    """

    family: str
    preset: str


class DistillSettings(Config):
    """What a student is to do, and how it is trained.

    Attributes:
        steps: of the student's sampler.
        method: by which it learns; empty for the first that fits what the teacher gives.
        training: of each round.
    """

    steps: int = Field(default=1, gt=0)
    method: str = ""
    training: TrainingConfig = TrainingConfig(steps=400, ema=0.99)


class TrainingRequest(Config):
    """One training: of what, on what, how, and where to.

    Attributes:
        showers: the shower file that was prepared, a path or (for
            :func:`caloforge.models.training.distributed.train_distributed`) an address.
        prepared: folder of the prepared data.
        output: bundle folder to write.
        family: name of the family.
        preset: name of the preset.
        overrides: changes to the preset, see :func:`caloforge.models.presets.resolve`.
        seed: of the first weights and all that follows.
        max_minutes: limit on everything from reading the showers to the last step, over all
            attempts; the learning rate then follows the clock. Weights of a training that is
            limited by time depend on the speed of the machine.
        energies: folder that :func:`caloforge.models.training.energies.train_energies` wrote, for a family that
            draws layer energies first; they are trained within without it.
        checkpoints: folder for checkpoints, shared by all processes; beside ``output`` if not
            given. What this training left there is removed at the end.
        overwrite: see :func:`caloforge.outputs.check_folder`.
    """

    showers: str | Path
    prepared: Path
    output: Path
    family: str
    preset: str = "demo"
    overrides: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    max_minutes: float | None = None
    energies: Path | None = None
    checkpoints: Path | None = None
    overwrite: bool = False

    def absolute(self) -> Self:
        """Return it with absolute paths, for processes that may run elsewhere."""
        paths = {name: value.absolute() for name, value in self if isinstance(value, Path)}
        if not is_remote(str(self.showers)):
            paths["showers"] = Path(self.showers).absolute()
        return self.model_copy(update=paths)


def choice(registry: Registry[Any], *, key: str) -> BeforeValidator:
    """Return what makes a field one of the things of a registry, with the settings of that one.

    The field is given as ``{key: NAME, setting: value, ...}``; the settings are those of the class' ``Config``.
    Its type is ``Annotated[SerializeAsAny[BaseOfTheConfigs], choice(...)]``.

    Args:
        registry: what to choose from.
        key: under which the name stands.
    """

    def parse(value: Any) -> Config:
        if isinstance(value, Config):
            return value
        if not isinstance(value, Mapping) or key not in value:
            text = f"expected {{{key}: NAME, ...}} with one of {', '.join(registry)}, got {value!r}"
            raise PydanticCustomError("no_choice", "{text}", {"text": text})
        try:
            settings: type[Config] = registry.get(value[key]).Config
        except InputError as error:
            # A plain ValueError's text would get pydantic's own prefix.
            raise PydanticCustomError("unknown_name", "{text}", {"text": str(error)}) from None
        for name in value:
            if name not in settings.model_fields:
                raise unknown_key(str(name), settings)
        return settings.model_validate(value)

    return BeforeValidator(parse)


def by_default(**values: Any) -> Any:
    """Return the default of a field with a :func:`choice`."""
    return Field(default=values, validate_default=True)
