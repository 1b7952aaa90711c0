"""Students and samplers with few steps, judged beside what they are to replace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_families import quick

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import sha256
from caloforge.models.bundle import load_bundle
from caloforge.models.configuration import DistillSettings, TrainingRequest
from caloforge.models.generate import generate
from caloforge.models.training import distill as student_training
from caloforge.models.training.distill import train_student
from caloforge.models.training.loop import TrainingInterrupted
from caloforge.models.training.train import train
from caloforge.showers import Conditions, open_showers
from caloforge.tuning.inference.few_steps import FewSteps

pytestmark = pytest.mark.slow

SETTINGS = DistillSettings.parse({"steps": 2, "training": {"steps": 3, "batch_size": 16}}, where="test")
ENERGIES = Conditions(np.geomspace(2e3, 5e4, 5))


@pytest.fixture(scope="module")
def teachers(small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("teachers")
    for name in ("diffusion", "flow_matching"):
        train(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=folder / name, family=name,
                overrides=quick(name) | {"sampler": {"steps": 6}},
            )
        )  # fmt: skip
    return {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


@pytest.mark.parametrize(
    ("family", "sampler", "method", "rounds"),
    [
        ("diffusion", "ddim", "progressive", [4, 2]),
        ("flow_matching", "euler", "reflow", [2]),
    ],
)
def test_a_student_is_a_bundle_that_names_its_teacher(
    family: str, sampler: str, method: str, rounds: list[int],
    teachers: dict[str, Path], small_showers: Path, small_prepared: Path, tmp_path: Path,
) -> None:  # fmt: skip
    student = tmp_path / "student"
    overrides = tmp_path / "training.yaml"
    overrides.write_text("{steps: 3, batch_size: 16}")
    words = [
        "distill",
        "--bundle",
        teachers[family],
        "--data",
        small_showers,
        "--prepared",
        small_prepared,
        "--steps",
        2,
        *(["--method", method] if method == "reflow" else []),
    ]
    result = CliRunner().invoke(main, list(map(str, [*words, "--training", overrides, "-o", student])))
    assert result.exit_code == 0, result.output
    generator, teacher = load_bundle(student), load_bundle(teachers[family])
    assert generator.default_steps == 2
    assert generator.config["settings"]["sampler"]["name"] == sampler
    record = json.loads((student / "training.json").read_text())
    assert record["distillation"]["method"] == method
    assert record["distillation"]["rounds"] == rounds
    weights = sha256(teachers[family] / "weights.safetensors")
    assert record["distillation"]["teacher"]["sha256"] == weights
    assert record["provenance"]["inputs"]["teacher"]["sha256"] == weights
    assert weights[:16] in (student / "README.md").read_text()
    assert generator.config["energies"]["sha256"] == teacher.config["energies"]["sha256"]
    assert not np.allclose(generator.sample(ENERGIES, seed=1), teacher.sample(ENERGIES, seed=1, steps=2))
    found = FewSteps.model_validate_json((student / "distillation.json").read_text())
    assert [way.steps for way in found.ways] == [6, 2, 2]
    assert all(way.fidelity.fpd.value >= 0 and way.ms > 0 for way in found.ways)
    assert (student / "distillation.md").read_text().strip() in result.output
    assert not list(tmp_path.glob(".student*"))
    generate(student, ENERGIES, tmp_path / "drawn.hdf5", seed=1)
    said = open_showers(tmp_path / "drawn.hdf5").attributes["distilled"]
    assert said.startswith(f"a student of 2 steps ({sampler}) in place of a teacher of 6 (")


def test_a_stopped_distillation_goes_on_to_the_same_student(
    teachers: dict[str, Path],
    small_showers: Path,
    small_prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def student(name: str) -> Path:
        train_student(teachers["diffusion"], small_showers, small_prepared, tmp_path / name, settings=SETTINGS, seed=1)
        return tmp_path / name / "weights.safetensors"

    whole = student("whole")
    fit_stages: Any = student_training.fit_stages

    def stop_in_the_second_round(owner: Any, stages: Any, *given: Any, **options: Any) -> Any:
        if "round_2" in stages:
            raise TrainingInterrupted(143)
        return fit_stages(owner, stages, *given, **options)

    monkeypatch.setattr(student_training, "fit_stages", stop_in_the_second_round)
    with pytest.raises(TrainingInterrupted):
        student("stopped")
    monkeypatch.undo()
    assert list((tmp_path / ".stopped.checkpoints").glob("*/round_4.ckpt"))
    assert student("stopped").read_bytes() == whole.read_bytes()


def test_what_cannot_be_distilled_is_one_line(
    teachers: dict[str, Path], tiny_bundle: Path, small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="vae draws a shower in one pass; there are no steps to save"):
        train_student(tiny_bundle, small_showers, small_prepared, tmp_path / "student")
    with pytest.raises(InputError, match="distillation to 6 steps: the teacher takes 6 passes; give the student fewer"):
        train_student(
            teachers["diffusion"],
            small_showers,
            small_prepared,
            tmp_path / "student",
            settings=DistillSettings(steps=6),
        )
    with pytest.raises(
        InputError, match=r"'reflow' distils a velocity, but denoising trains a denoiser; choose progressive$"
    ):
        train_student(
            teachers["diffusion"],
            small_showers,
            small_prepared,
            tmp_path / "student",
            settings=DistillSettings(method="reflow"),
        )
    assert not (tmp_path / "student").exists()


@pytest.mark.slow
def test_samplers_and_steps_side_by_side(
    teachers: dict[str, Path], small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    output = tmp_path / "steps"
    words = ["steps", "--bundle", teachers["diffusion"], "--data", small_showers, "--prepared", small_prepared]
    words += ["--sampler", "dpm_solver", "--sampler", "{name: ddim, eta: 1}", "--steps", "2,4", "-o", output]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    found = FewSteps.model_validate_json((output / "steps.json").read_text())
    assert [(way.label, way.steps) for way in found.ways] == [
        ("dpm_solver", 4), ("dpm_solver", 2), ("ddim, eta=1", 4), ("ddim, eta=1", 2)
    ]  # fmt: skip
    assert len({way.fidelity.fpd.value for way in found.ways}) == 4
    assert (output / "steps.md").read_text().strip() in result.output
    assert (output / "steps.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_steps_are_one_line(teachers: dict[str, Path], small_showers: Path, tmp_path: Path) -> None:
    words = [
        "steps",
        "--bundle",
        teachers["diffusion"],
        "--data",
        small_showers,
        "--sampler",
        "ddim",
        "-o",
        tmp_path / "o",
    ]
    for given, message in (("5,x", "expected numbers of steps from 1 to 10000"), ("0", "expected numbers of steps")):
        result = CliRunner().invoke(main, list(map(str, [*words, "--steps", given])))
        assert result.exit_code == 2
        assert message in result.output
