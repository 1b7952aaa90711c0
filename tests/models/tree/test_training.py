"""The tree's stages in the training loop: interruptions, time limit, GPU. Several processes: test_distributed.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_families import quick

from caloforge.files import read_json
from caloforge.models.agreement import TOLERANCE, relative_difference, that_must_agree
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.families.tree import Tree
from caloforge.models.training.train import train
from caloforge.showers import Conditions

STAGES = ("totals", "layers", "rings", "cells", "early")


def request(showers: Path, prepared: Path, output: Path, **changes: Any) -> TrainingRequest:
    overrides = quick("tree", steps=6)
    for stage in STAGES:
        overrides[stage] = overrides[stage] | {"checkpoint_seconds": 0}
    return TrainingRequest(
        showers=showers, prepared=prepared, output=output, family="tree", seed=4, **{"overrides": overrides, **changes}
    )


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def undisturbed(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("tree") / "whole"
    train(request(small_showers, small_prepared, output))
    return output


@pytest.mark.parametrize("stage", ["rings", "early"])
def test_an_interrupted_training_ends_with_the_same_weights(
    stage: str, undisturbed: Path, small_showers: Path, small_prepared: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The networks of the first layers begin as the others ended, but not when their training goes on."""
    batch = getattr(Tree, f"_{stage}_batch")

    def broken(self: Tree, data: Any, number: int, *args: Any) -> Any:
        if number == 4:
            raise Interrupted
        return batch(self, data, number, *args)

    ordered = request(small_showers, small_prepared, tmp_path / "again", checkpoints=tmp_path / "checkpoints")
    with monkeypatch.context() as patch:
        patch.setattr(Tree, f"_{stage}_batch", broken)
        with pytest.raises(Interrupted):
            train(ordered)
    assert not (tmp_path / "again").exists()
    with caplog.at_level("INFO", logger="caloforge"):
        train(ordered)
    assert f"resuming {stage} at step 4" in caplog.messages
    whole, resumed = (load_file(folder / "weights.safetensors") for folder in (undisturbed, tmp_path / "again"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_every_stage_has_its_share_of_a_time_limit(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    seconds = 12.0
    endless = quick("tree", steps=10**6)
    ordered = request(small_showers, small_prepared, tmp_path / "limited", overrides=endless, max_minutes=seconds / 60)
    figures = train(ordered)
    record = read_json(tmp_path / "limited" / "training.json")["stages"]
    shares = {
        stage.title or name: stage.share for name, stage in load_bundle(tmp_path / "limited").network.stages().items()
    }
    assert record.keys() == shares.keys()
    # Stages stop by their own clock, after the step at which their time is up; reading comes off the limit first.
    assert figures["seconds"] < seconds + 2
    for title, stage in record.items():
        assert 0 < stage["steps"] < 10**6
        assert stage["seconds"] < max(0.5, 1.2 * shares[title] * seconds) + 1, title


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_trains_and_draws_what_a_cpu_does(
    undisturbed: Path, small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    train(request(small_showers, small_prepared, tmp_path / "b"))
    assert load_bundle(tmp_path / "b").network.noise_features == load_bundle(undisturbed).network.noise_features
    conditions = Conditions(np.geomspace(*load_bundle(tmp_path / "b").energy_range, 100))
    there, here = (load_bundle(tmp_path / "b", device=name).sample(conditions, seed=3) for name in ("cuda", "cpu"))
    difference = relative_difference(there, here, load_bundle(tmp_path / "b").threshold)
    assert that_must_agree(difference, Tree.flipped_share).max() < TOLERANCE
