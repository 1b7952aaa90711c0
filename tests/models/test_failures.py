"""What goes wrong without a fault of the package ends in one line of a class of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from caloforge.draws import Draws
from caloforge.files import sha256
from caloforge.models.bundle import GeneratorFailed, load_bundle
from caloforge.models.configuration import TrainingConfig
from caloforge.models.export import ExportFailed, export
from caloforge.models.family import TrainableModel
from caloforge.models.training.loop import TrainingDiverged, fit
from caloforge.showers import Conditions


def test_weights_that_are_not_finite_are_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    state = load_file(bundle / "weights.safetensors")
    name = next(name for name in state if name.startswith("voxels."))
    state[name].view(-1)[0] = torch.nan
    save_file(state, bundle / "weights.safetensors")
    config = json.loads((bundle / "config.json").read_text())
    config["files"]["weights.safetensors"] = sha256(bundle / "weights.safetensors")
    (bundle / "config.json").write_text(json.dumps(config))
    with pytest.raises(GeneratorFailed, match=rf"bundle: {name} has a number that is not finite; train it again"):
        load_bundle(bundle)


def test_showers_that_are_not_finite_are_refused(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = load_bundle(tiny_bundle)

    batches: list[Tensor] = []

    def broken(conditions: Tensor, noise: Tensor, steps: int | None) -> Tensor:
        batches.append(torch.ones(len(noise), 480))
        if len(batches) == 2:
            batches[-1][3, 7] = torch.inf
        return batches[-1]

    monkeypatch.setattr(generator.network, "forward", broken)
    with pytest.raises(GeneratorFailed, match="vae: shower 8 is not finite"):
        generator.sample(Conditions(np.full(10, 5000.0)), seed=0, batch_size=5)


@pytest.mark.slow
def test_an_onnx_file_that_differs_is_not_kept(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caloforge.models import export as module

    true = module.run_onnx
    monkeypatch.setattr(module, "run_onnx", lambda *arguments, **options: 1.01 * true(*arguments, **options))
    with pytest.raises(ExportFailed, match="ONNX and PyTorch differ by"):
        export(tiny_bundle, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


class Infinite(TrainableModel):
    """A loss that is infinite, with gradients that are not: constant offsets hide from the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, part: str, batch: Tensor, draws: Draws) -> Tensor:
        return (self.weight * batch).mean() + torch.inf


def test_a_stage_without_one_finite_loss_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged, match=r"strange: not one finite loss in 5 steps \(model\)"):
        fit(
            Infinite(), lambda number, draws: draws.normal(8, 1), TrainingConfig(steps=5, batch_size=8),
            name="strange", seed=0, seconds=None, checkpoint=tmp_path / "x.ckpt",
            fabric=Fabric(accelerator="cpu", devices=1),
        )  # fmt: skip
