"""Layer energies as an artifact of their own, that families stand on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import read_json, sha256
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import TrainingRequest
from caloforge.models.energies import load_energies
from caloforge.models.family import Family
from caloforge.models.registries import FAMILIES
from caloforge.models.training.energies import train_energies
from caloforge.models.training.train import train
from caloforge.preprocessing.prepare import prepare
from caloforge.showers import open_showers

STAGE = {"steps": 6, "batch_size": 32, "ema": 0.5}
OVERRIDES: dict[str, Any] = {
    "training": STAGE,
    "energies": STAGE,
    "model": {"network": {"width": 16, "blocks": 1}},
}


@pytest.fixture(scope="module")
def energies(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("energies") / "energies"
    figures = train_energies(small_showers, small_prepared, folder, overrides=STAGE, seed=3)
    assert figures["steps"] == 6
    assert figures["parameters"] > 0
    assert not list(folder.parent.glob(".*"))  # no checkpoints are left
    return folder


def request(small_showers: Path, small_prepared: Path, output: Path, **changes: Any) -> TrainingRequest:
    values = {"family": "vae", "overrides": OVERRIDES, "seed": 3, **changes}
    return TrainingRequest(showers=small_showers, prepared=small_prepared, output=output, **values)


def test_trained_once_or_within_is_the_same_generator(
    small_showers: Path, small_prepared: Path, energies: Path, tmp_path: Path
) -> None:
    within = train(request(small_showers, small_prepared, tmp_path / "within"))
    given = train(request(small_showers, small_prepared, tmp_path / "given", energies=energies))
    a, b = (load_file(tmp_path / name / "weights.safetensors") for name in ("within", "given"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert "layer_energies_loss" in within
    assert "layer_energies_loss" not in given
    first, second = (load_bundle(tmp_path / name) for name in ("within", "given"))
    assert first.config["energies"] == {"sha256": sha256(energies / "weights.safetensors"), "given": False}
    assert second.config["energies"] == {**first.config["energies"], "given": True}
    card = (tmp_path / "given" / "README.md").read_text()
    assert f"| layer energies | given, SHA-256 {second.config['energies']['sha256'][:16]}... |" in card
    assert list(read_json(tmp_path / "given" / "training.json")["stages"]) == ["voxels"]


def test_the_command_line_trains_and_takes_them(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "stage.yaml").write_text(json.dumps(STAGE))
    (tmp_path / "family.yaml").write_text(json.dumps(OVERRIDES))
    data = [f"--data={small_showers}", f"--prepared={small_prepared}", "--seed=3"]
    runner = CliRunner()
    made = runner.invoke(
        main, ["train-energies", *data, f"--overrides={tmp_path}/stage.yaml", f"-o{tmp_path}/energies"]
    )
    assert made.exit_code == 0, made.output
    assert "model_loss=" in made.output
    options = ["--family=vae", f"--energies={tmp_path}/energies", f"--overrides={tmp_path}/family.yaml"]
    assert runner.invoke(main, ["train", *data, *options, f"-o{tmp_path}/vae"]).exit_code == 0
    assert load_bundle(tmp_path / "vae").config["energies"]["given"]


def test_layer_energies_of_other_data_are_refused(
    small_showers: Path, small_prepared: Path, energies: Path, tmp_path: Path
) -> None:
    prepare(open_showers(small_showers), tmp_path / "other", seed=9)
    wrong = request(small_showers, tmp_path / "other", tmp_path / "vae", energies=energies)
    with pytest.raises(InputError, match=r"trained on other data than .*other.*train them on it with"):
        train(wrong)
    with pytest.raises(InputError, match="not a folder of trained layer energies"):
        train(request(small_showers, small_prepared, tmp_path / "vae", energies=tmp_path / "other"))
    assert not (tmp_path / "vae").exists()


def test_a_family_without_layer_energies_refuses_them(
    small_showers: Path, small_prepared: Path, energies: Path, tmp_path: Path
) -> None:
    class OneStage(FAMILIES.get("vae")):  # type: ignore[misc]
        uses_layer_energies = False

    assert issubclass(OneStage, Family)
    FAMILIES.register("one_stage", OneStage)
    try:
        with pytest.raises(InputError, match="family 'one_stage' draws layer energies itself"):
            train(request(small_showers, small_prepared, tmp_path / "b", family="one_stage", energies=energies))
    finally:
        FAMILIES.forget("one_stage")


def test_damaged_folders_are_named(energies: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(energies, tmp_path / "energies"))
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"weights.safetensors: differs from what was saved"):
        load_energies(folder)
    (folder / "config.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="not layer energies of format 3"):
        load_energies(folder)
