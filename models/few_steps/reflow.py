"""Reflow: flow matching on pairs of noise and the shower that the teacher makes of it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.batch import Batch
from caloforge.models.few_steps.distillation import Distillation, refuse_more_passes
from caloforge.models.objectives.flow_matching import FlowMatching
from caloforge.models.objectives.objective import Meaning, Objective

TIMES = 4
"""Most times at which a pair is used: the teacher's showers take most of a training step."""


class Reflow(Distillation):
    """The student's paths are the straight lines between the ends of the teacher's, which do not cross.

    Source: Liu, Gong and Liu, Rectified Flow, arXiv:2209.03003, algorithm 1; with ``steps`` of Euler the student is
    trained at the times of its steps only, as their distillation of a flow into one step is.
    """

    takes: ClassVar[Meaning] = "velocity"
    sampler = "euler"

    @classmethod
    def check(cls, objective: Objective) -> None:
        """Refuse another objective that makes a velocity: the student is trained by flow matching.

        Raises:
            InputError: it is another.
        """
        if not isinstance(objective, FlowMatching):
            raise InputError(f"the teacher was trained by {objective.config.name}; reflow is for flow_matching")

    @classmethod
    def rounds(cls, teacher_passes: int, steps: int) -> tuple[int, ...]:
        """Return one round."""
        refuse_more_passes(teacher_passes, steps)
        return (steps,)

    def forward(self, part: str, batch: Batch, draws: Draws) -> Tensor:
        """Return the loss of a batch: its conditions, and showers of the teacher."""
        noise = draws.normal(len(batch), self.teacher.network.noise_features)
        with torch.no_grad():
            x = self.teacher.decode(noise, batch.condition, None)
        n = min(TIMES, self.steps)
        if n == self.steps:  # so few that each is taken, and each as often
            step = torch.arange(n, device=x.device).repeat_interleave(len(batch))[:, None]
        else:
            step = draws.integers(0, self.steps, n * len(batch), 1)
        t = step / self.steps
        noise, x, condition = (rows.repeat(n, 1) for rows in (noise, x, batch.condition))
        between = (1 - t) * noise + t * x
        velocity: Tensor = self.student.objective.view(self.student.network)(between, t, condition)
        return (velocity - (x - noise)).square().mean()
