"""Choices are compared one at a time, on the same held-out showers, with errors over seeds."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.prepared import load_prepared
from caloforge.showers import open_showers
from caloforge.tuning.ablate import ablate
from caloforge.tuning.ablation import OWN, Ablation, ablation_markdown
from caloforge.tuning.ablation_plot import draw
from caloforge.tuning.choices import load_choices
from caloforge.tuning.objective import TrialFailed
from caloforge.tuning.result import Trial, Tuning
from caloforge.tuning.rules import check_experiment

DECAY = "training.weight_decay=0,0.0001,0.1"
VOXELS = "preprocessing.voxel_scaling=quantile,logit"


def choices(*varied: str, family: str = "vae", **more: Any) -> Any:
    return load_choices(varied, family=family, preset="demo", **more)


def test_own_values_are_no_choices_of_their_own() -> None:
    found = choices(DECAY, VOXELS)
    assert found.labels == (
        "training.weight_decay=0.0001", "training.weight_decay=0", "training.weight_decay=0.1",
        "preprocessing.voxel_scaling=logit",
    )  # fmt: skip
    assert found.own_values == {"training.weight_decay": "0.0001", "preprocessing.voxel_scaling": "quantile"}
    assert choices("training.steps=5,6", overrides={"training": {"batch_size": 8}}).own.label == "training.steps=750"
    # What the own value is cannot be said as a word: another setting stands for it.
    assert choices("preprocessing.threshold=1,2").own.path != "preprocessing.threshold"


@pytest.mark.parametrize(
    ("varied", "text"),
    [
        (["training.weight_decay"], "expected PATH=VALUE,VALUE"),
        (["training.weight_decay=1,"], "expected PATH=VALUE,VALUE"),
        (["training.weight_decay=1", "training.weight_decay=2"], "--vary training.weight_decay: is given twice"),
        (["training.weight_decay=1,1"], "--vary training.weight_decay: 1 is given twice"),
        (["training.weight_decay=0.0001"], "is what the family has anyway"),
        (["training.weight_decays=1"], "--vary training.weight_decays: .*did you mean 'training.weight_decay'"),
        (["training.weight_decay=-1"], "--vary training.weight_decay: .*greater than or equal to 0"),
        (["preprocessing.voxel_scalling=logit"], "voxel_scaling"),
        (["preprocessing.voxel_scaling=log"], "--vary preprocessing.voxel_scaling: voxel_scaling: .*'logit'"),
        (["preprocessing.test_fraction=0.1"], "must be the same for all"),
        (["training.steps=7"], "is set by the overrides, too"),
    ],
)
def test_what_cannot_be_varied_is_refused_by_name(varied: list[str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        choices(*varied, overrides={"training": {"steps": 5}})


def test_a_setting_without_effect_is_refused() -> None:
    with pytest.raises(InputError, match="makes no difference: family 'tree' does not code voxels"):
        choices(VOXELS, family="tree")


def trial(choice: str, seed: int, fpd: float, **more: Any) -> Trial:
    metrics = {"auc": 0.6, "fpd": fpd, "kpd": 0.0, "auc_floor": 0.5, "fpd_floor": 0.1 + seed / 100, "kpd_floor": 0.0}
    state = more.get("state", "succeeded")
    return Trial(
        f"t{seed}",
        state,
        {"choice": choice, "seed": seed},
        metrics if state == "succeeded" else {},
        1.0,
        more.get("cause", ""),
    )


def small() -> Ablation:
    found = choices("training.weight_decay=0,0.1")
    own, none, much = found.labels
    trials = [trial(own, i, fpd) for i, fpd in enumerate((1.0, 1.2, 1.4))]
    trials += [trial(none, i, fpd) for i, fpd in enumerate((2.0, 2.3, 2.6))]
    trials += [trial(much, 0, 0.9), *(trial(much, i, 0, state="failed", cause="ended with code 1") for i in (1, 2))]
    return Ablation.of(trials, found, family="vae", seeds=3)


def test_errors_are_those_of_means_over_seeds() -> None:
    ablation = small()
    own, none, much = ablation.lines
    assert (own.label, none.label) == (OWN, "training.weight_decay=0")
    assert own.figures["fpd"].mean == pytest.approx(1.2)
    assert own.figures["fpd"].error == pytest.approx(0.2 / math.sqrt(3))
    assert own.floors["fpd"].mean == pytest.approx(0.11)
    assert ablation.difference(none, "fpd") == pytest.approx((1.1, math.hypot(0.2, 0.3) / math.sqrt(3)))
    assert (much.trials, math.isnan(much.figures["fpd"].error)) == (1, True)
    table = ablation_markdown(ablation)
    assert "| own settings | 3 | 0.6 ± 0 (0.5) | 1.2 ± 0.1 (0.11) |" in table
    assert "| training.weight_decay=0 | 3 |" in table
    assert "| +1.1 ± 0.2 |" in table
    assert "| training.weight_decay=0.1 | 1 of 3 |" in table
    assert "2 failed: ended with code 1" in table
    assert "uncertain by 50 %" in table


def test_the_plot_has_a_row_for_each_choice_and_the_floor() -> None:
    figure = draw(small())
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [OWN, "training.weight_decay=0", "training.weight_decay=0.1"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["auc", "fpd", "kpd"]
    dashed = [line for line in figure.axes[1].get_lines() if line.get_linestyle() == "--"]
    assert dashed[0].get_xdata()[0] == pytest.approx((3 * 0.11 * 2 + 0.1) / 7)


def test_the_backend_gets_all_choices_with_all_seeds(
    small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def run(experiment: dict[str, Any], _: Path, *, timeout: float | None) -> Tuning:
        given.append(experiment)
        names, seeds = (one["feasibleSpace"] for one in experiment["spec"]["parameters"])
        assert (seeds["min"], seeds["max"]) == ("4", "5")
        trials = [trial(name, seed, 1.0) for name in names["list"] for seed in (4, 5)]
        return Tuning("fpd", False, trials[2:] if len(given) > 1 else trials)

    monkeypatch.setattr("caloforge.tuning.trials.run_experiment", run)
    options: dict[str, Any] = {"family": "vae", "vary": [DECAY, VOXELS], "seeds": 2, "seed": 4}
    ablation = ablate(small_showers, tmp_path / "out", **options, overrides={"training": {"steps": 9}}, max_minutes=2)
    (experiment,) = given
    check_experiment(experiment)
    assert experiment["spec"]["maxTrialCount"] == 2 * len(ablation.lines) == 8
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    words = pod["command"] + pod["args"]
    assert "--set=training.steps=9" in words
    assert "--max-minutes=2" in words
    assert "--set=${trialParameters.choice}" in words
    assert "--seed=${trialParameters.seed}" in words
    assert f"--prepared={tmp_path / 'out' / 'prepared'}" in words
    written = read_json(tmp_path / "out" / "ablation.json")
    assert [len(one["figures"]["fpd"]) for one in written["choices"]] == [2] * 4
    with pytest.raises(TrialFailed, match="nothing to compare"):  # none of the own settings is left
        ablate(small_showers, tmp_path / "again", **options)
    assert (tmp_path / "again" / "ablation.md").is_file()


def test_katib_takes_the_choices_of_showers_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run_on_katib(experiment: dict[str, Any], *_: object, timeout: float | None) -> Tuning:
        given.append(experiment)
        names = experiment["spec"]["parameters"][0]["feasibleSpace"]["list"]
        return Tuning("fpd", False, [trial(name, seed, 1.0) for name in names for seed in (0, 1)])

    monkeypatch.setattr("caloforge.cluster.connect", lambda namespace: SimpleNamespace(namespace=namespace or "mine"))
    monkeypatch.setattr("caloforge.tuning.katib.run_on_katib", run_on_katib)
    ablate("s3://b/showers.hdf5", tmp_path / "out", family="vae", vary=[VOXELS], seeds=2, backend="katib")
    (experiment,) = given
    check_experiment(experiment)
    assert experiment["spec"]["algorithm"]["algorithmName"] == "grid"
    words = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    assert "--data=s3://b/showers.hdf5" in words["command"]
    assert "--split-seed=0" in words["command"]


def test_other_preprocessing_holds_out_the_same_showers(small_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(small_showers)
    strict = float(np.median(showers.read().sum(axis=1) / showers.conditions.incident_energy))
    own = prepare(showers, tmp_path / "own", seed=1)
    changed = prepare(
        showers, tmp_path / "changed", settings=PrepareSettings(max_response=strict), seed=1, held_out=own
    )
    for split in ("test", "validation"):
        np.testing.assert_array_equal(changed.splits[split], own.splits[split])
    assert set(changed.splits["train"]) < set(own.splits["train"])
    rows = np.union1d(own.splits["test"], own.splits["validation"])
    held_out = showers.select(rows).conditions.incident_energy
    trained_in = changed.record["conditions"]["incident_energy"]
    assert trained_in["low"] <= held_out.min() <= held_out.max() <= trained_in["high"]  # none of them is outside
    other = tmp_path / "other.hdf5"
    other.write_bytes(small_showers.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"is not the file that .*own was prepared from"):
        prepare(open_showers(other), tmp_path / "wrong", seed=1, held_out=own)
    assert not (tmp_path / "wrong").exists()


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.slow
def test_the_command_trains_and_goes_on(small_showers: Path, tmp_path: Path) -> None:
    overrides = tmp_path / "overrides.yaml"
    overrides.write_text(
        yaml.safe_dump(
            {"training": {"steps": 4}, "energies": {"steps": 4}, "model": {"network": {"width": 16, "blocks": 1}}}
        )
    )
    command = [
        "ablate", "--data", small_showers, "--family", "vae", "--vary", "preprocessing.voxel_scaling=logit",
        "--vary", "training.learning_rate=1e9", "--seeds", 2, "--overrides", overrides, "-o", tmp_path / "out",
    ]  # fmt: skip
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    content = read_json(tmp_path / "out" / "ablation.json")
    own, logit, _ = content["choices"]
    assert len(set(own["figures"]["fpd"])) == 2
    assert own["floors"] == logit["floors"]  # the same showers are held out
    assert own["figures"]["fpd"] != logit["figures"]["fpd"]
    changed = list((tmp_path / "out" / "trials").glob("*/changed"))
    assert len(changed) == 2
    assert load_prepared(changed[0]).record["settings"]["voxel_scaling"] == "logit"
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/trial.json")}
    again = invoke(*command)
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert read_json(tmp_path / "out" / "ablation.json")["choices"][0] == own
