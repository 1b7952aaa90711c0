import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from another import taken_by_another

from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.bundle import load_bundle
from caloforge.pipelines.local.run import StepError, claim, run_local
from caloforge.pipelines.settings import PipelineSettings
from caloforge.showers import open_showers
from caloforge.validation.report.leaderboard import Leaderboard
from caloforge.webhook import WEBHOOK

pytestmark = pytest.mark.slow

WORKING, FAILING = ("vae", "flow_matching"), "wgan"
QUICK = {
    "training": {"steps": 20, "batch_size": 32},
    "energies": {"steps": 20, "batch_size": 32},
    "model": {"network": {"width": 16, "blocks": 1}},
}
BAD = {**QUICK, "training": {"steps": 60, "batch_size": 32, "learning_rate": 1e30}}
SECRET = "planted-secret-0123456789"
SETTINGS = {
    "families": [FAILING, *WORKING],
    "overrides": {FAILING: BAD, **dict.fromkeys(WORKING, QUICK)},
    "cache": False,
    "optimise": {"sizes": [1, 10]},
    "distill": {"steps": 2, "training": {"steps": 3, "batch_size": 16}},
}


def _wait_for_trainings(output: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until one has failed for good, and the last has made its folder, whose place must be the same next time."""

    def kept() -> bool:
        return any("no finite gradient" in path.read_text() for path in output.glob("steps/cache/*.json"))

    deadline = time.monotonic() + 600
    while not (kept() and list(output.glob(f"checkpoints/*/{WORKING[-1]}/*"))):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_killed_run_goes_on_tries_what_failed_again_and_leaves_everything(
    small_showers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family that fails ends neither the run nor the next into the same folder."""
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:1/{SECRET}")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    output, settings = tmp_path / "run", tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS))
    command = [sys.executable, "-P", "-m", "caloforge", "run", "--data", small_showers, "-o", output]
    # A folder called caloforge in the current directory must not be taken for the package.
    (tmp_path / "caloforge").mkdir()
    with subprocess.Popen([*command, "--settings", settings], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        _wait_for_trainings(output, process)
        os.kill(process.pid, signal.SIGKILL)

    with caplog.at_level("INFO", logger="caloforge"):
        result = run_local(small_showers, output, settings=PipelineSettings.parse(SETTINGS, where="test"))
    assert "preprocess: kept from an earlier run" in caplog.messages
    assert "preprocess: started" not in caplog.messages
    assert f"train {FAILING}: started" in caplog.messages
    assert not [message for message in caplog.messages if "executor_input" in message or "\x1b" in message]

    winner = result.leaderboard.winner
    assert winner in WORKING
    assert Leaderboard.read(output / "leaderboard.json") == result.leaderboard
    assert set(result.metrics.generators) == set(WORKING)
    assert list(result.leaderboard.failed) == [FAILING]
    assert "no finite gradient" in result.leaderboard.failed[FAILING]
    for page in ("overview.html", "report.html"):
        assert "no finite gradient" in (output / page).read_text()
    assert any(note.startswith("flow_matching: a student of 2 steps") for note in result.leaderboard.notes)
    assert (output / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert list((output / "plots").glob("*.png"))
    assert winner in (output / "overview.html").read_text()
    assert read_json(output / "bundle" / "config.json")["family"] == winner
    judged = output / ("students" if winner == "flow_matching" else "bundles") / winner / "weights.safetensors"
    assert (output / "bundle" / "weights.safetensors").read_bytes() == judged.read_bytes()
    assert (output / "bundle" / "generator.onnx").is_file()
    assert read_json(output / "optimised" / "optimisation.json")["family"] == winner
    assert {path.name for path in (output / "bundles").iterdir()} == set(WORKING)
    assert {path.stem for path in (output / "generated").iterdir()} == set(WORKING)
    for family in WORKING:
        assert read_json(output / "bundles" / family / "config.json")["family"] == family
        generated = open_showers(output / "generated" / f"{family}.hdf5")
        assert generated.attributes["generator"] == family
        # What takes steps is judged as its student, what takes none as it is.
        assert generated.attributes.get("sampler_steps") == (2 if family == "flow_matching" else None)
    assert [path.name for path in (output / "students").iterdir()] == ["flow_matching"]
    assert load_bundle(output / "students" / "flow_matching").default_steps == 2
    assert (output / "students" / "flow_matching" / "distillation.md").is_file()
    assert "deploymentSpec" in next(yaml.load_all((output / "pipeline.yaml").read_text(), Loader=yaml.CSafeLoader))
    steps = read_json(output / "timings.json")["steps"]
    assert steps["preprocess"]["kept_from_earlier_run"]
    assert {f"{verb} {family}" for verb in ("train", "generate") for family in WORKING} <= set(steps)
    assert not (output / "checkpoints").exists()
    assert "the webhook cannot be reached (ConnectError)" in caplog.messages
    assert SECRET not in caplog.text
    assert not [path for path in output.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert 0 <= result.timings["overhead_fraction"] < 1


def test_a_failing_step_is_named(small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(tmp_path / "run", inputs=[])
    (tmp_path / "run" / "steps").mkdir(parents=True)
    (tmp_path / "run" / "steps" / "times.jsonl").mkdir()  # the step cannot write its times
    with pytest.raises(StepError, match=r"step 'preprocess' failed: IsADirectoryError: (?s:.*)Traceback"):
        run_local(small_showers, tmp_path / "run")


def test_two_runs_cannot_write_to_one_folder(small_showers: Path, tmp_path: Path) -> None:
    claim(tmp_path, inputs=[])
    with taken_by_another(tmp_path), pytest.raises(InputError, match="another command is writing here"):
        run_local(small_showers, tmp_path)


def test_a_wrong_input_within_a_step_is_one_clear_line_and_an_edited_pipeline_stays(
    small_showers: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    settings = PipelineSettings.parse({"prepare": {"max_response": 1e-9}}, where="test")

    def start() -> str:
        with pytest.raises(InputError) as error:
            run_local(small_showers, output, settings=settings)
        return str(error.value)

    first = start()
    assert "holds only 0 good showers" in first
    assert "\n" not in first
    for name in ("pipeline.yaml", "timings.json"):
        path = output / name
        before = path.read_bytes() if path.exists() else None
        path.write_text("mine", encoding="utf-8")
        assert f"{name}: there already, and not as caloforge left it; move it away" in start()
        assert path.read_text(encoding="utf-8") == "mine"
        path.unlink() if before is None else path.write_bytes(before)
    assert start() == first, "what was compiled may be written again"
