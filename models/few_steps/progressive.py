"""Progressive distillation of a denoiser: one step of the student is two of its teacher, round after round."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.batch import Batch
from caloforge.models.few_steps.distillation import Distillation, halved_steps
from caloforge.models.objectives.objective import Meaning, Objective
from caloforge.models.voxel_family import VoxelModel


class Progressive(Distillation):
    """The student's shower is the one from which a single step of DDIM leads where two of the teacher's lead.

    x_t is a shower with noise at t = i / n, i = 1 .. n; the teacher goes from t over t - 1 / 2n to t' = t - 1 / n. The
    loss is that of v, which is |student's shower - wanted shower|^2 / sin^2(pi t / 2).
    Source: Salimans and Ho, arXiv:2202.00512, algorithm 2 with the weight "SNR + 1".
    """

    takes: ClassVar[Meaning] = "denoiser"
    sampler = "ddim"

    @classmethod
    def check(cls, objective: Objective) -> None:
        """Refuse a network that gives the noise: in pure noise that says nothing of the shower.

        Raises:
            InputError: it does.
        """
        if getattr(objective.config, "target", "v") == "eps":
            raise InputError(
                "the teacher gives the noise (objective.target: eps), which says nothing of a shower in pure noise, where "
                "the student begins; train a teacher with target v or x"
            )

    @classmethod
    def rounds(cls, teacher_passes: int, steps: int) -> tuple[int, ...]:
        """Return numbers of steps that are halved from round to round."""
        return halved_steps(teacher_passes, steps)

    def forward(self, part: str, batch: Batch, draws: Draws) -> Tensor:
        """Return the loss of a batch."""
        x = batch.coded
        then = (draws.integers(0, self.steps, len(x), 1) / self.steps) * (math.pi / 2)
        h = math.pi / 2 / self.steps
        now = then + h
        noisy = torch.cos(now) * x + torch.sin(now) * draws.normal(*x.shape)
        with torch.no_grad():
            ended = _down(self.teacher, _down(self.teacher, noisy, now, then + h / 2, batch), then + h / 2, then, batch)
            wanted = shower_between(noisy, ended, now, then)
        clean, _ = _split(self.student, noisy, now, batch)
        return ((clean - wanted).square() / torch.sin(now) ** 2).mean()


def shower_between(noisy: Tensor, ended: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Return the shower s for which one step of DDIM from x (B, V) at one angle ends at x' at a smaller one, (B, 1) each.

    x' = cos(then) s + sin(then) (x - cos(now) s) / sin(now).
    """
    ratio = torch.sin(then) / torch.sin(now)
    return (ended - ratio * noisy) / (torch.cos(then) - ratio * torch.cos(now))


def _split(model: VoxelModel, x: Tensor, angle: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the shower and the noise that a model sees in x (B, V) at angles (B, 1)."""
    clean, dirt = model.objective.view(model.network)(x, angle / (math.pi / 2), batch.condition)
    return clean, dirt


def _down(model: VoxelModel, x: Tensor, now: Tensor, then: Tensor, batch: Batch) -> Tensor:
    """Return where a step of DDIM leads."""
    clean, dirt = _split(model, x, now, batch)
    return torch.cos(then) * clean + torch.sin(then) * dirt
