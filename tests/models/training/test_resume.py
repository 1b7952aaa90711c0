"""Trainings of several stages that end at any moment go on to the weights that they would have had.

A checkpoint is written as a whole or not at all, so what a killed process leaves is what lies on the disk after one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_families import quick

from caloforge.models.configuration import DistillSettings, TrainingRequest
from caloforge.models.training import loop
from caloforge.models.training.distill import train_student
from caloforge.models.training.refiner import train_refiner
from caloforge.models.training.train import train
from caloforge.showers import open_showers

pytestmark = pytest.mark.slow

STEPS = 4
TRAINING = {"steps": STEPS, "batch_size": 16, "checkpoint_seconds": 0}
REFINER: dict[str, Any] = {
    "network": {"backbone": "mlp", "width": 16, "blocks": 1},
    "layer_network": {"width": 16, "blocks": 1},
    "layers": TRAINING,
    "voxels": TRAINING,
}

Training = Callable[[Path], None]


class Killed(BaseException):
    """Nothing that a training catches."""


@pytest.fixture(scope="module")
def trainings(
    small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Callable[[Path], object]]:
    """Return what trains each kind of model into a folder."""

    def family(name: str, **more: Any) -> Callable[[Path], object]:
        overrides = {
            key: TRAINING if key not in ("model", "sampler") else value
            for key, value in (quick(name) | more).items()
        }  # fmt: skip
        return lambda output: train(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=output, family=name, overrides=overrides, seed=4
            )
        )

    teacher = tmp_path_factory.mktemp("teacher") / "diffusion"
    family("diffusion", sampler={"steps": 4})(teacher)
    student = DistillSettings.parse({"steps": 1, "training": TRAINING}, where="test")
    return {
        **{name: family(name) for name in ("autoregressive_flow", "bib_ae")},
        "distillation": lambda output: train_student(
            teacher, small_showers, small_prepared, output, settings=student, seed=4
        ),
        "refiner": lambda output: train_refiner(
            small_showers, small_prepared, open_showers(small_showers), output, overrides=REFINER, seed=4
        ),
    }


@pytest.mark.parametrize(
    ("kind", "stage"),
    [
        ("autoregressive_flow", "student"),
        ("bib_ae", "post_processor"),
        ("distillation", "round_1"),
        ("refiner", "voxels"),
    ],
)
def test_a_killed_training_goes_on(
    kind: str, stage: str, trainings: dict[str, Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in a stage that learns from the one before it, with that one's checkpoint and half of its own there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainings[kind](tmp_path / "whole")
        save = loop._State.save

        def killed_after(state: Any, fabric: Any) -> None:
            save(state, fabric)
            if state.path.stem == stage and state.step == STEPS // 2:
                raise Killed

        monkeypatch.setattr(loop._State, "save", killed_after)
        with pytest.raises(Killed):
            trainings[kind](tmp_path / "killed")
        monkeypatch.undo()
        assert not (tmp_path / "killed").exists()
        begun: list[tuple[str, int]] = []
        restore = loop._State.restore

        def told(state: Any, fabric: Any) -> None:
            restore(state, fabric)
            begun.append((state.path.stem, state.step))

        monkeypatch.setattr(loop._State, "restore", told)
        trainings[kind](tmp_path / "killed")
    finally:
        torch.set_num_threads(threads)
    *before, (name, step) = begun
    assert (name, step) == (stage, STEPS // 2)
    assert before
    assert all(step == STEPS for _, step in before), "what was done is not done again"
    whole, killed = (tmp_path / name / "weights.safetensors" for name in ("whole", "killed"))
    assert killed.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob(".*checkpoints")), "no checkpoints stay"
