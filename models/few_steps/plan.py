"""How a generator is distilled, found from its configuration alone."""

from __future__ import annotations

from typing import Any

from caloforge.errors import InputError
from caloforge.models.configuration import DistillSettings, FamilyConfig
from caloforge.models.registries import DISTILLATIONS, OBJECTIVES, SAMPLERS


def steps_of(config: FamilyConfig) -> int | None:
    """Return how many steps a generator takes; None where it draws in one pass."""
    found: int | None = getattr(getattr(config, "sampler", None), "steps", None)
    return found


def plan(config: Any, settings: DistillSettings, *, where: str) -> tuple[str, tuple[int, ...]]:
    """Return how a generator is distilled, by name, and the student's steps in each round.

    Args:
        config: of the teacher.
        settings: of the student.
        where: the teacher, for messages.

    Raises:
        InputError: it takes no steps, too few, or cannot be distilled, at all or by the method that is asked for.
    """
    teacher_steps = steps_of(config)
    if teacher_steps is None:
        raise InputError(f"{where}: {config.family} draws a shower in one pass; there are no steps to save")
    objective = OBJECTIVES.get(config.objective.name)(config.objective)
    names = [name for name in DISTILLATIONS if DISTILLATIONS.get(name).takes == objective.gives]
    if not names:
        raise InputError(f"{where}: nothing distils a {objective.gives}, which {config.objective.name} trains")
    name = settings.method or names[0]
    method = DISTILLATIONS.get(name)
    if name not in names:
        raise InputError(
            f"{where}: {name!r} distils a {method.takes}, but {config.objective.name} trains a {objective.gives}; "
            f"choose {' or '.join(names)}"
        )
    try:
        method.check(objective)
        return name, method.rounds(teacher_steps * SAMPLERS.get(config.sampler.name).passes, settings.steps)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
