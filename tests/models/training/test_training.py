from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.configuration import TrainingConfig, TrainingRequest
from caloforge.models.family import TrainableModel
from caloforge.models.training.loop import fit
from caloforge.models.training.train import train

SLOW_ENOUGH = {"training": {"steps": 120, "batch_size": 16, "checkpoint_seconds": 0}, "energies": {"steps": 5}}
MODEL = {"model": {"network": {"width": 16, "blocks": 1}}}
OVERRIDES: dict[str, Any] = SLOW_ENOUGH | MODEL

SCRIPT = """
    import json, sys
    from pathlib import Path
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.training.train import train
    showers, prepared, output, checkpoints, overrides = sys.argv[1:]
    train(TrainingRequest(showers=showers, prepared=prepared, output=output, family="wgan",
                          overrides=json.loads(overrides), seed=4, checkpoints=checkpoints))
"""


def start(small_showers: Path, small_prepared: Path, output: Path, checkpoints: Path) -> subprocess.Popen[bytes]:
    import json

    arguments = [small_showers, small_prepared, output, checkpoints, json.dumps(OVERRIDES)]
    return subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(SCRIPT), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def step_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["step"])


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_training_ends_with_the_same_weights(
    small_showers: Path, small_prepared: Path, tmp_path: Path, how: signal.Signals
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(
            TrainingRequest(
                showers=small_showers,
                prepared=small_prepared,
                output=tmp_path / "whole",
                family="wgan",
                overrides=OVERRIDES,
                seed=4,
            )
        )
    finally:
        torch.set_num_threads(threads)
    output, checkpoints = tmp_path / "killed", tmp_path / "checkpoints"
    process = start(small_showers, small_prepared, output, checkpoints)
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("*/voxels.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    code = process.wait(60)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 128 + signal.SIGTERM)
    assert not output.exists()
    (checkpoint,) = checkpoints.glob("*/voxels.ckpt")
    assert 0 < step_of(checkpoint) < 120
    assert start(small_showers, small_prepared, output, checkpoints).wait(120) == 0
    whole, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not checkpoints.exists()


def test_training_is_reproducible_and_depends_on_the_seed(
    small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    overrides = MODEL | {"training": {"steps": 5, "batch_size": 16}, "energies": {"steps": 3}}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(
            TrainingRequest(
                showers=small_showers,
                prepared=small_prepared,
                output=tmp_path / name,
                family="vae",
                overrides=overrides,
                seed=seed,
            )
        )
    a, b, c = (load_file(tmp_path / name / "weights.safetensors") for name in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


@pytest.mark.slow
def test_time_limit_is_kept(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    overrides = MODEL | {"training": {"steps": 10**6}, "energies": {"steps": 10**6}}
    figures = train(
        TrainingRequest(
            showers=small_showers,
            prepared=small_prepared,
            output=tmp_path / "b",
            family="vae",
            overrides=overrides,
            max_minutes=4 / 60,
        )
    )
    # What counts is that a training of a million steps stopped, by its own clock, near the limit.
    assert figures["steps"] < 10**6
    assert figures["seconds"] < 4 + 1
    with pytest.raises(InputError, match="max_minutes must be positive"):
        train(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=tmp_path / "b", family="vae", max_minutes=0
            )
        )


class Line(TrainableModel):
    """y = w x, whose best w is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, part: str, batch: tuple[Tensor, Tensor], draws: Draws) -> Tensor:
        x, condition = batch
        return ((self.weight * condition - x) ** 2).mean()


def line(number: int, draws: Draws) -> tuple[Tensor, Tensor]:
    x = draws.normal(64, 1)
    return 3 * x, x


def run_line(tmp_path: Path, batches: Any, **changes: Any) -> nn.Module:
    config = TrainingConfig(steps=400, batch_size=64, learning_rate=0.1, **changes)
    return fit(
        Line(), batches, config, name="line", seed=0, seconds=None, checkpoint=tmp_path / "line.ckpt",
        fabric=Fabric(accelerator="cpu", devices=1),
    ).model  # fmt: skip


def test_loop_finds_the_minimum_of_a_parabola(tmp_path: Path) -> None:
    model = run_line(tmp_path, line, ema=0.9, weight_decay=0)
    assert model.weight.item() == pytest.approx(3, abs=0.01)


def test_diverging_training_says_so(tmp_path: Path) -> None:
    def broken(number: int, draws: Draws) -> tuple[Tensor, Tensor]:
        x, condition = line(number, draws)
        return x * np.nan, condition

    with pytest.raises(RuntimeError, match="no finite gradient in 50 steps up to step 49; lower the learning rate"):
        run_line(tmp_path, broken)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_cuda(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    train(
        TrainingRequest(
            showers=small_showers,
            prepared=small_prepared,
            output=tmp_path / "b",
            family="flow_matching",
            overrides=OVERRIDES,
        )
    )
    assert (tmp_path / "b" / "weights.safetensors").is_file()
