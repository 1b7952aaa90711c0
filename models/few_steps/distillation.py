"""The contract of a distillation: rounds, in each of which a student learns from what the one before makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import deepcopy
from typing import ClassVar

from torch import Tensor

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.batch import Batch
from caloforge.models.family import TrainableModel
from caloforge.models.objectives.objective import Meaning, Objective
from caloforge.models.voxel_family import VoxelModel


class Distillation(TrainableModel, ABC):
    """One round: the network of a student, and what it learns from its teacher.

    Attributes:
        takes: what the teacher must be to a sampler.
        sampler: name of the student's.
        student: what is trained; it begins as a copy of the teacher.
        teacher: what it learns from; never trained.
        steps: of the student in this round.
    """

    takes: ClassVar[Meaning]
    sampler: ClassVar[str]

    def __init__(self, teacher: VoxelModel, steps: int) -> None:
        """Begin a round."""
        super().__init__()
        self.student = deepcopy(teacher).requires_grad_(True).train()
        self.steps = steps
        # In a list it is no part of the model: it has no optimiser, no average and no place in checkpoints.
        self._teacher = [teacher.eval().requires_grad_(False)]

    @property
    def teacher(self) -> VoxelModel:
        """What is learnt from."""
        return self._teacher[0]

    @classmethod
    def check(cls, objective: Objective) -> None:
        """Refuse a teacher whose objective makes networks that cannot be distilled so.

        Raises:
            InputError: it does.
        """

    @classmethod
    @abstractmethod
    def rounds(cls, teacher_passes: int, steps: int) -> tuple[int, ...]:
        """Return the steps of the student, a pass each, in each round; those that are wanted last."""

    @abstractmethod
    def forward(self, part: str, batch: Batch, draws: Draws) -> Tensor:
        """Return the loss of a batch."""


def halved_steps(teacher_passes: int, steps: int) -> tuple[int, ...]:
    """Return the wanted steps times 2^k ... 4, 2, 1: the first round's teacher takes at least its own number of passes.

    Raises:
        InputError: the student takes as many passes as its teacher.
    """
    refuse_more_passes(teacher_passes, steps)
    found = [steps]
    while 2 * found[0] < teacher_passes:
        found.insert(0, 2 * found[0])
    return tuple(found)


def refuse_more_passes(teacher_passes: int, steps: int) -> None:
    """Refuse a student with as many passes of the network as its teacher; it takes one a step.

    Raises:
        InputError: it has.
    """
    if steps >= teacher_passes:
        raise InputError(
            f"distillation to {steps} steps: the teacher takes {teacher_passes} passes; give the student fewer"
        )
