"""A student learns to do in few steps what its teacher does in many, where both are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from exact_gaussian import MEAN, STD, coded_batch, gaussian_target, gaussian_velocity, seeded
from torch import Tensor, nn

from caloforge.errors import InputError
from caloforge.models.configuration import DistillSettings
from caloforge.models.few_steps.distillation import Distillation
from caloforge.models.few_steps.plan import plan
from caloforge.models.few_steps.progressive import Progressive, shower_between
from caloforge.models.few_steps.progressive_flow import ProgressiveFlow
from caloforge.models.few_steps.reflow import Reflow
from caloforge.models.objectives.denoising import Denoising, DenoisingConfig
from caloforge.models.objectives.flow_matching import normal_velocity
from caloforge.models.presets import resolve
from caloforge.models.registries import SAMPLERS
from caloforge.models.voxel_family import VoxelModel

STEPS = 2


class OfAGaussian(nn.Module):
    """The exact network, and a straight line in x of its own at each of a few times: what a student needs here."""

    noise_features = 1

    def __init__(self, exact: Any) -> None:
        super().__init__()
        self.exact = exact
        self.change = nn.Parameter(torch.zeros(STEPS + 1, 2, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        here = self.change[(t[:, 0] * STEPS).round().long()] if self.change.requires_grad else torch.zeros(len(x), 2)
        return self.exact(x, t) + here[:, :1] + here[:, 1:] * x


def teacher_of(family: str, exact: Any) -> VoxelModel:
    return VoxelModel(OfAGaussian(exact), resolve(family, "demo"))  # type: ignore[arg-type]


def learn(round_: Distillation) -> None:
    """Find the least loss of a fixed batch: it is quadratic in what the student may change."""
    x = MEAN + STD * seeded(0).normal(2000, 1, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(round_.student.network.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = round_("model", coded_batch(x), seeded(1))
        value.backward()
        return value

    optimiser.step(loss)


def ends(model: VoxelModel, sampler: str, steps: int) -> Tensor:
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    kind = SAMPLERS.get(sampler)
    view = model.objective.view(model.network)
    with torch.no_grad():
        found: Tensor = kind(kind.Config()).sample(view, noise, torch.zeros(9, 1), steps)
    return found


def test_a_progressive_student_ends_where_the_teacher_ends_with_twice_the_steps() -> None:
    teacher = teacher_of("diffusion", lambda x, t: gaussian_target("v", x, t))
    round_ = Progressive(teacher, STEPS)
    before, wanted = ends(round_.student, "ddim", STEPS), ends(teacher, "ddim", 2 * STEPS)
    learn(round_)
    assert not torch.allclose(before, wanted, atol=0.1)
    assert torch.allclose(ends(round_.student, "ddim", STEPS), wanted, atol=1e-4)
    assert torch.equal(teacher.network.change, torch.zeros_like(teacher.network.change))


def test_a_progressive_flow_ends_where_the_teacher_ends_with_twice_the_steps() -> None:
    teacher = teacher_of("flow_matching", lambda x, t: gaussian_velocity(x, t) - normal_velocity(x, t))
    round_ = ProgressiveFlow(teacher, STEPS)
    before, wanted = ends(round_.student, "euler", STEPS), ends(teacher, "euler", 2 * STEPS)
    learn(round_)
    assert not torch.allclose(before, wanted, atol=0.1)
    assert torch.allclose(ends(round_.student, "euler", STEPS), wanted, atol=1e-4)


def test_a_reflown_student_ends_where_its_teacher_ends() -> None:
    teacher = teacher_of("flow_matching", lambda x, t: gaussian_velocity(x, t) - normal_velocity(x, t))
    round_ = Reflow(teacher, STEPS)
    before, wanted = ends(round_.student, "euler", STEPS), ends(teacher, "heun", 4)
    learn(round_)
    assert not torch.allclose(before, wanted, atol=0.1)
    assert torch.allclose(ends(round_.student, "euler", STEPS), wanted, atol=1e-2)


def test_the_teacher_is_no_part_of_what_is_trained() -> None:
    round_ = Progressive(teacher_of("diffusion", lambda x, t: x), STEPS)
    assert [name for name, _ in round_.named_parameters()] == ["student.network.change"]
    assert not round_.teacher.network.change.requires_grad


def test_the_shower_between_is_that_of_a_step_of_ddim() -> None:
    draws = seeded(0)
    noisy, clean = draws.normal(50, 2, dtype=torch.float64), draws.normal(50, 2, dtype=torch.float64)
    now = draws.uniform(50, 1, dtype=torch.float64) + 0.5
    then = now * 0.6
    noise = (noisy - torch.cos(now) * clean) / torch.sin(now)
    ended = torch.cos(then) * clean + torch.sin(then) * noise
    assert torch.allclose(shower_between(noisy, ended, now, then), clean)


def test_rounds_halve_the_steps() -> None:
    assert Progressive.rounds(25, 2) == (16, 8, 4, 2)
    assert Progressive.rounds(8, 4) == (4,)
    assert Progressive.rounds(9, 4) == (8, 4)
    assert ProgressiveFlow.rounds(12, 1) == (8, 4, 2, 1)
    assert Reflow.rounds(12, 2) == (2,)
    of_four_steps = resolve("flow_matching", "demo")  # of heun, which takes two passes each
    assert plan(of_four_steps, DistillSettings(steps=1), where="teacher") == ("progressive_flow", (4, 2, 1))
    with pytest.raises(InputError, match="distillation to 4 steps: the teacher takes 4 passes; give the student fewer"):
        Progressive.rounds(4, 4)


def test_a_teacher_that_gives_the_noise_is_refused() -> None:
    with pytest.raises(InputError, match=r"objective.target: eps.*train a teacher with target v or x"):
        Progressive.check(Denoising(DenoisingConfig(target="eps")))
