"""A student of a teacher whose density is known: N(MEAN, STD^2) for each voxel."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from exact_gaussian import MEAN, STD, coded_batch, seeded
from torch import Tensor, nn

from caloforge.models.distillation import Student


class Exact(nn.Module):
    """The teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(MEAN, dtype=torch.float64))

    def through(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        return (x - self.mean) / STD, x.new_full((len(x),), -x.shape[1] * math.log(STD))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        z, log_det = self.through(x, condition)
        return 0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - log_det


class Affine(nn.Module):
    """The student's map."""

    def __init__(self, centre: float, width: float) -> None:
        super().__init__()
        self.centre, self.width = (nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in (centre, width))

    def push(self, z: Tensor, condition: Tensor) -> Tensor:
        return self.centre + self.width * z

    def through(self, z: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.push(z, condition), z.shape[1] * self.width.log().expand(len(z))


class Doubles:
    """Normal numbers of mean 0 and variance 1, exactly."""

    def normal(self, *shape: int) -> Tensor:
        z = seeded(0).normal(*shape, dtype=torch.float64)
        return (z - z.mean()) / z.std(correction=0)


def loss_of(centre: float, width: float, teacher: nn.Module | None = None) -> tuple[Tensor, Any]:
    x = MEAN + STD * Doubles().normal(400, 3)
    student = Student(Affine(centre, width))  # type: ignore[arg-type]
    return student("model", (coded_batch(x), teacher or Exact()), Doubles()), student.network  # type: ignore[arg-type]


def test_the_teacher_s_own_map_is_the_optimum() -> None:
    loss, network = loss_of(MEAN, STD)
    assert loss.item() == pytest.approx(0, abs=1e-9)
    loss.backward()
    assert network.centre.grad.abs() < 1e-9
    assert network.width.grad.abs() < 1e-9


@pytest.mark.parametrize(("centre", "width"), [(MEAN + 0.3, STD), (MEAN, 2 * STD), (0.0, 1.0)])
def test_another_map_loses_its_divergence_and_its_distance(centre: float, width: float) -> None:
    ours, theirs = (torch.distributions.Normal(*pair) for pair in ((centre, width), (MEAN, STD)))
    divergence = torch.distributions.kl_divergence(ours, theirs).item()
    distance = (centre - MEAN) ** 2 + (width - STD) ** 2
    assert loss_of(centre, width)[0].item() == pytest.approx(divergence + distance, abs=1e-6)


def test_the_teacher_is_left_as_it_is() -> None:
    teacher = Exact()
    loss_of(0.0, 1.0, teacher)[0].backward()
    assert teacher.mean.grad is None
    assert teacher.mean.requires_grad
