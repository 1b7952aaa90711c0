"""Progressive distillation of a velocity field: one step of the student is two of its teacher, round after round."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.models.batch import Batch
from caloforge.models.few_steps.distillation import Distillation, halved_steps
from caloforge.models.objectives.objective import Meaning
from caloforge.models.voxel_family import VoxelModel


class ProgressiveFlow(Distillation):
    """The student's velocity is the mean of the teacher's over a step, taken at its beginning.

    x_t = (1 - t) n + t x at t = i / n, i = 0 .. n - 1; the teacher goes from t over t + 1 / 2n to t + 1 / n in two steps of
    Euler, and the loss is |student's velocity - (where it ends - x_t) n|^2.
    Source: Salimans and Ho, arXiv:2202.00512, algorithm 2, for straight paths in place of angles.
    """

    takes: ClassVar[Meaning] = "velocity"
    sampler = "euler"

    @classmethod
    def rounds(cls, teacher_passes: int, steps: int) -> tuple[int, ...]:
        """Return numbers of steps that are halved from round to round."""
        return halved_steps(teacher_passes, steps)

    def forward(self, part: str, batch: Batch, draws: Draws) -> Tensor:
        """Return the loss of a batch."""
        x, h = batch.coded, 1 / self.steps
        t = draws.integers(0, self.steps, len(x), 1) * h
        between = (1 - t) * draws.normal(*x.shape) + t * x
        with torch.no_grad():
            first = _velocity(self.teacher, between, t, batch)
            second = _velocity(self.teacher, between + h / 2 * first, t + h / 2, batch)
        return (_velocity(self.student, between, t, batch) - (first + second) / 2).square().mean()


def _velocity(model: VoxelModel, x: Tensor, t: Tensor, batch: Batch) -> Tensor:
    found: Tensor = model.objective.view(model.network)(x, t, batch.condition)
    return found
