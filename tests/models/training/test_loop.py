"""The training loop where each of its steps is known in closed form.

The gradient is the same number at every step: Adam then moves the weight by the learning rate, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.models.configuration import TrainingConfig
from caloforge.models.family import Stage, TrainableModel
from caloforge.models.training.loop import fit
from caloforge.models.training.train import fit_stages

PEAK = 0.1


class Slope(TrainableModel):
    """Two weights on a plane whose steepness is the batch; remembers where it has been."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.seen: list[Tensor] = []

    def forward(self, part: str, batch: float, draws: Draws) -> Tensor:
        self.seen.append(self.weight.detach().clone())
        return batch * self.weight.sum()


def trained(
    folder: Path, batches: Callable[[int, Draws], float], *, steps: int, **changes: float
) -> tuple[list[Tensor], Tensor]:
    """Return the weights before each step and after the last, and the averaged ones."""
    config = TrainingConfig.model_validate(
        {"steps": steps, "learning_rate": PEAK, "warmup": 0.0, "weight_decay": 0.0, "clip": 1e9, **changes}
    )
    model = Slope()
    done = fit(
        model, batches, config, name="slope", seed=0, seconds=None, checkpoint=folder / "slope.ckpt",
        fabric=Fabric(accelerator="cpu", devices=1),
    )  # fmt: skip
    assert done.steps == steps
    return [*model.seen, model.weight.detach()], done.model.weight.detach()


def rates(weights: list[Tensor]) -> list[float]:
    return [(before - after)[0].item() for before, after in pairwise(weights)]


def test_learning_rate_rises_and_falls_to_zero(tmp_path: Path) -> None:
    found = rates(trained(tmp_path, lambda number, draws: 1.0, steps=100, warmup=0.2)[0])
    quarter = (1 + math.sqrt(0.5)) / 2  # half a cosine, a quarter of the way down
    wanted = {0: 0.01, 5: 0.25, 10: 0.5, 19: 0.95, 20: 1.0, 40: quarter, 60: 0.5, 80: 1 - quarter, 99: 0.0003855}
    assert {step: found[step] / PEAK for step in wanted} == pytest.approx(wanted, rel=1e-3)
    assert found[:20] == sorted(found[:20])
    assert found[20:] == sorted(found[20:], reverse=True)


def test_without_a_rise_it_begins_at_its_peak(tmp_path: Path) -> None:
    assert rates(trained(tmp_path, lambda number, draws: 1.0, steps=4)[0])[0] == pytest.approx(PEAK)


@pytest.mark.parametrize("ema", [0.0, 0.5, 0.9])
def test_averaged_weights_follow_their_recursion(tmp_path: Path, ema: float) -> None:
    """a <- d a + (1 - d) w after each step; the memory d grows with the steps, up to ``ema``."""
    weights, averaged = trained(tmp_path, lambda number, draws: 1.0, steps=30, ema=ema)
    wanted = weights[1]
    for n, weight in enumerate(weights[2:], 1):
        decay = min(ema, (1 + n) / (10 + n))
        wanted = decay * wanted + (1 - decay) * weight
    assert torch.allclose(averaged, wanted, rtol=1e-12)
    # It lags behind, unless it forgets at once.
    assert torch.equal(averaged, weights[-1]) == (ema == 0)


def test_one_wild_batch_moves_the_weights_no_further_than_any_other(tmp_path: Path) -> None:
    """Clipped, gradients of norm 2 and more are all alike, and steps are the learning rate."""
    steep = trained(tmp_path / "a", lambda number, draws: 1e4 if number == 3 else 2.0, steps=10, clip=1.0)[0]
    even = trained(tmp_path / "b", lambda number, draws: 2.0, steps=10, clip=1.0)[0]
    assert torch.allclose(torch.stack(steep), torch.stack(even), rtol=1e-6)


def test_gradients_below_the_limit_are_left_alone(tmp_path: Path) -> None:
    """Their norm is the root of 2: the limit is on all weights together."""

    def batches(number: int, draws: Draws) -> float:
        return 1.0 + number

    wanted = trained(tmp_path / "a", batches, steps=3)[0][-1]
    assert torch.equal(trained(tmp_path / "b", batches, steps=3, clip=3 * 2**0.5 * 1.001)[0][-1], wanted)
    assert not torch.allclose(trained(tmp_path / "c", batches, steps=3, clip=3 * 2**0.5 * 0.9)[0][-1], wanted)


def test_weights_decay(tmp_path: Path) -> None:
    """Without a gradient AdamW shrinks a weight by the factor 1 - rate * decay at each step."""
    model = Slope()
    nn.init.ones_(model.weight)
    config = TrainingConfig(steps=20, learning_rate=PEAK, warmup=0, weight_decay=0.1, ema=0)
    fit(
        model, lambda number, draws: 0.0, config, name="slope", seed=0, seconds=None,
        checkpoint=tmp_path / "slope.ckpt", fabric=Fabric(accelerator="cpu", devices=1),
    )  # fmt: skip
    wanted = math.prod(1 - 0.1 * PEAK * 0.5 * (1 + math.cos(math.pi * step / 20)) for step in range(20))
    assert model.weight[0].item() == pytest.approx(wanted, rel=1e-9)


def test_a_stage_leaves_its_averaged_weights_in_place(tmp_path: Path) -> None:
    settings = {"learning_rate": PEAK, "warmup": 0.0, "weight_decay": 0.0, "clip": 1e9, "ema": 0.5}
    stage = Stage(TrainingConfig(steps=20, **settings), lambda data, number, size, draws: 1.0)
    owner = nn.ModuleDict({"slope": Slope()})
    fit_stages(
        owner, {"slope": stage}, range(64), tmp_path, Fabric(accelerator="cpu", devices=1),
        name="test", seed=0, limit=None,
    )  # fmt: skip
    weights, averaged = trained(tmp_path / "alone", lambda number, draws: 1.0, steps=20, ema=0.5)
    assert torch.equal(owner["slope"].weight, averaged)
    assert not torch.equal(averaged, weights[-1])
