import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.models.presets import resolve
from caloforge.tuning.local import run_experiment
from caloforge.tuning.plots import plots_html
from caloforge.tuning.result import Tuning, tuning_markdown
from caloforge.tuning.study import distributions, open_storage, open_study, sampler
from caloforge.tuning.write import write_tuning

pytestmark = pytest.mark.slow

Toy = Callable[..., dict[str, Any]]


def test_the_best_of_some_trials(toy: Toy, tmp_path: Path) -> None:
    tuning = run_experiment(toy(trials=6), tmp_path)
    assert [trial.state for trial in tuning.trials] == ["succeeded"] * 6
    values = [trial.metrics["fpd"] for trial in tuning.trials]
    assert tuning.ranked[0].metrics["fpd"] == min(values)
    assert not tuning.ended
    write_tuning(tuning, tmp_path)
    overrides = yaml.safe_load((tmp_path / "overrides.json").read_text())
    config = resolve("vae", "demo", overrides)
    assert config.training.batch_size == tuning.ranked[0].parameters["training.batch_size"]
    assert config.training.learning_rate == tuning.ranked[0].parameters["training.learning_rate"]
    lines = (tmp_path / "tuning.md").read_text().splitlines()
    header, _, *rows = lines[2:]
    assert header.split(" | ")[:2] == ["| trial", "fpd"]
    assert {row.count("|") for row in (header, *rows)} == {3 + len(tuning.ranked[0].parameters)}
    assert [row.split("|")[1].strip() for row in rows] == [trial.name for trial in tuning.ranked]
    for name in ("history.png", "parallel_coordinates.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert len(read_json(tmp_path / "trials.json")) == 6


@pytest.mark.parametrize("algorithm", ["random", "cmaes"])
def test_algorithms(algorithm: str, toy: Toy, tmp_path: Path) -> None:
    assert len(run_experiment(toy(algorithm=algorithm), tmp_path).ranked) == 4


def test_a_grid_is_tried_once(toy: Toy, tmp_path: Path) -> None:
    ranges = {
        "training.batch_size": {"type": "int", "min": 32, "max": 64, "step": 32},
        "model.network.backbone": {"type": "categorical", "values": ["mlp", "layers"]},
    }
    tuning = run_experiment(toy(algorithm="grid", ranges=ranges, trials=9), tmp_path)
    points = {tuple(trial.parameters.values()) for trial in tuning.trials}
    assert points == {(32, "mlp"), (32, "layers"), (64, "mlp"), (64, "layers")}
    assert len(tuning.trials) == 4


def test_more_trials_go_on_from_the_first(toy: Toy, tmp_path: Path) -> None:
    first = run_experiment(toy(trials=2), tmp_path)
    both = run_experiment(toy(trials=4), tmp_path)
    assert list(both.trials[:2]) == list(first.trials)
    assert len({trial.parameters["training.learning_rate"] for trial in both.trials}) == 4
    with pytest.raises(InputError, match="holds the trials of another search"):
        run_experiment(toy(seed=2), tmp_path)


@pytest.mark.parametrize(
    ("mode", "message"), [("fails", "ended with code 1"), ("nan", "printed no fpd"), ("silent", "printed no fpd")]
)
def test_failing_trials(mode: str, message: str, toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """So many end the search as end Katib's: one more than run at a time, here."""
    tuning = run_experiment(toy(mode=mode, max_failed=1, trials=9), tmp_path)
    assert re.match(r"[34] trials failed; the last one, toy-000[23], ", tuning.ended), "two may end at once"
    assert message in tuning.ended
    assert {(trial.state, trial.cause.startswith(message)) for trial in tuning.trials} == {("failed", True)}
    assert 3 <= len(tuning.trials) <= 4
    assert tuning.best is None
    if mode == "fails":
        assert "out of memory" in caplog.text


GRID = {
    "training.learning_rate": {"type": "categorical", "values": [0.001, 0.002]},
    "training.batch_size": {"type": "categorical", "values": [32, 64]},
}


def test_an_input_that_all_trials_refuse_ends_the_search(toy: Toy, tmp_path: Path) -> None:
    """At the latest when no value is common to those that did."""
    tuning = run_experiment(toy(mode="refuses", algorithm="grid", ranges=GRID, parallel=1, max_failed=4), tmp_path)
    assert tuning.wrong_input
    assert tuning.ended == "showers.hdf5: 3 showers to judge by; a trial needs 20 or more"
    assert 2 <= len(tuning.trials) <= 3


def test_a_choice_that_is_refused_does_not_end_it(toy: Toy, tmp_path: Path) -> None:
    experiment = toy(mode="refuses_large", algorithm="grid", ranges=GRID, parallel=1, max_failed=4)
    tuning = run_experiment(experiment, tmp_path)
    assert not tuning.wrong_input
    assert [trial.state for trial in tuning.trials].count("succeeded") == 2
    assert len(tuning.trials) == 4


def test_a_single_trial_that_fails(toy: Toy, tmp_path: Path) -> None:
    tuning = run_experiment(toy(mode="fails", trials=1, max_failed=1), tmp_path)
    assert tuning.ended.startswith("1 trials failed; the last one, toy-0000, ended with code 1: see ")


def test_nothing_found_is_written_too(toy: Toy, tmp_path: Path) -> None:
    tuning = replace(run_experiment(toy(mode="fails", trials=1), tmp_path), fixed={"training.steps": 4})
    write_tuning(tuning, tmp_path / "out")
    assert read_json(tmp_path / "out" / "overrides.json") == {"training": {"steps": 4}}
    table = (tmp_path / "out" / "tuning.md").read_text()
    assert table.startswith("No trial gave fpd: the family keeps its own parameters; ended early: 1 trials failed")
    assert "| toy-0000 | failed: ended with code 1 |" in table
    assert (tmp_path / "out" / "history.png").read_bytes().startswith(b"\x89PNG")
    empty = Tuning("fpd", False, [], ended="the cluster is away")
    assert tuning_markdown(empty).count("\n") == 1
    assert plots_html(empty).count("data:image/png") == 2


def test_hopeless_trials_are_stopped(toy: Toy, tmp_path: Path) -> None:
    experiment = toy(mode="curve", trials=8, parallel=1, algorithm="random", early_stopping=True)
    for setting in experiment["spec"]["earlyStopping"]["algorithmSettings"]:
        setting["value"] = "1"
    states = [trial.state for trial in run_experiment(experiment, tmp_path).trials]
    assert states[0] == "succeeded"
    assert "stopped early" in states


def test_the_goal_ends_the_search(toy: Toy, tmp_path: Path) -> None:
    experiment = toy(trials=9, parallel=1)
    experiment["spec"]["objective"]["goal"] = 1e9
    assert len(run_experiment(experiment, tmp_path).trials) == 1


def test_the_time_is_up(toy: Toy, tmp_path: Path) -> None:
    """Trials that are done must do; the others go on when there is time again."""
    experiment = toy(mode="second_sleeps", trials=3, parallel=1)
    (done,) = run_experiment(experiment, tmp_path, timeout=3).trials
    assert done.state == "succeeded"
    nothing = run_experiment(toy(mode="sleeps"), tmp_path / "other", timeout=0.5)
    assert nothing.best is None
    assert re.fullmatch(r"the time is up after 0 of 4 trials, see .*toy-0000/log", nothing.ended)
    assert not _processes_with(str(tmp_path))


def test_what_only_katib_runs(toy: Toy, tmp_path: Path) -> None:
    experiment = toy(algorithm="hyperband")
    experiment["spec"]["algorithm"]["algorithmSettings"] = []
    with pytest.raises(InputError, match=r"cannot be used here.*tpe"):
        run_experiment(experiment, tmp_path)


@pytest.mark.slow
def test_sigterm_leaves_nothing_behind_and_the_search_goes_on(toy: Toy, tmp_path: Path) -> None:
    write_json(tmp_path / "given.json", toy(mode="sleeps", parallel=2))
    code = (
        "import signal, sys, json; from pathlib import Path\n"
        "from caloforge.tuning.local import run_experiment\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "run_experiment(json.load(open(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    search = subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path / "given.json"), str(tmp_path / "out")])
    try:
        logs = _wait_for_logs(tmp_path / "out" / "trials", 2)
    finally:
        search.send_signal(signal.SIGTERM)
        assert search.wait(30) == 143
    assert not _processes_with(str(tmp_path / "out")), logs

    experiment = read_json(tmp_path / "given.json")
    command = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["command"]
    command[-1] = "good"  # the same search but for the sleep
    write_json(tmp_path / "out" / "experiment.json", experiment)
    tuning = run_experiment(experiment, tmp_path / "out")
    assert len(tuning.ranked) == 4
    assert {f"toy-{n:04d}" for n in (0, 1)} <= {trial.name for trial in tuning.ranked}, "the stopped ones, again"


@pytest.mark.slow
def test_no_trial_outlives_a_killed_search(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-P", "-m", "caloforge", "tune", "--data", str(small_showers), "--family", "vae"]
    overrides = tmp_path / "long.yaml"
    overrides.write_text("training: {steps: 1000000}\nenergies: {steps: 4}\n")
    search = subprocess.Popen([*command, "--trials", "1", "--overrides", str(overrides), "-o", str(output)])
    try:
        (log,) = _wait_for_logs(output / "trials", 1)
        _wait_for(lambda: "voxels on cpu" in log.read_text(), "the training did not start")
        assert _processes_with(f"--output={output}/trials")
    finally:
        search.kill()
        search.wait()
    _wait_for(lambda: not _processes_with(f"--output={output}/trials"), "the trial went on")
    assert "checkpoint saved" in log.read_text(), "and it was told to end, not killed"


def _wait_for(done: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def _wait_for_logs(folder: Path, count: int) -> list[Path]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        logs = list(folder.glob("*/log"))
        if len(logs) >= count:
            return logs
        time.sleep(0.05)
    raise AssertionError(f"no {count} trials started")


def _processes_with(text: str) -> list[str]:
    """Return the processes whose environment or command names ``text``; Linux only."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("algorithm", ["random", "tpe"])
def test_a_search_that_was_stopped_finds_what_it_would_have_found(algorithm: str, toy: Toy, tmp_path: Path) -> None:
    whole = run_experiment(toy(algorithm=algorithm, trials=4), tmp_path / "whole")
    stopped = toy(algorithm=algorithm, trials=1)
    run_experiment(stopped, tmp_path / "stopped")
    storage = open_storage(tmp_path / "stopped" / "study.db")
    for named in (False, True):  # killed at once, and once it had begun
        study = open_study(storage, stopped["metadata"]["name"], maximize=False, pruner=optuna.pruners.NopPruner())
        study.sampler = sampler(stopped["spec"]["algorithm"], number=1)
        trial = study.ask(distributions(stopped["spec"]["parameters"]))
        if named:
            trial.set_user_attr("name", whole.trials[1].name)
    storage.engine.dispose()
    found = run_experiment(toy(algorithm=algorithm, trials=4), tmp_path / "stopped")
    assert [(one.name, one.parameters) for one in found.trials] == [(one.name, one.parameters) for one in whole.trials]
