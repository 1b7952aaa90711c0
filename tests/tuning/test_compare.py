"""Families are compared at the same budget, on the same held-out showers, over several seeds."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from caloforge.cli import main
from caloforge.cli.options import budget_minutes
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.configuration import TrainingConfig
from caloforge.models.presets import ENDLESS, endless, resolve
from caloforge.models.registries import FAMILIES
from caloforge.showers import open_showers
from caloforge.tuning import compare as module
from caloforge.tuning.comparison import FamilyComparison, budget_text, comparison_markdown
from caloforge.tuning.comparison_plot import comparison_html, draw
from caloforge.tuning.objective import TrialFailed
from caloforge.tuning.result import Trial, Tuning
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.space import of_family
from caloforge.tuning.trial import HEADLINES
from caloforge.validation.observables.features import high_level_features
from caloforge.validation.observables.summary import summarise
from caloforge.validation.registries import FEATURE_METRICS
from caloforge.validation.validate import headline_figures

pytestmark = pytest.mark.slow


def trial(family: str, budget: str, seed: int, fpd: float, ms: float = 1.0, **more: Any) -> Trial:
    metrics = dict.fromkeys(HEADLINES, fpd / 10) | {f"{name}_error": 0.25 for name in HEADLINES}
    metrics |= {f"{name}_floor": 0.05 for name in HEADLINES} | {"train_parameters": 2e6, "train_seconds": 1.0}
    metrics |= {"fpd": fpd, "ms_per_shower": ms}
    state = more.get("state", "succeeded")
    given = {"family": family, "budget": budget, "seed": seed}
    return Trial(f"t{seed}", state, given, metrics if state == "succeeded" else {}, 1.0, more.get("cause", ""))


def small() -> FamilyComparison:
    trials = [trial("vae", "20m", seed, fpd, 1.0) for seed, fpd in enumerate((2.0, 3.0, 4.0))]
    trials += [trial("tree", "20m", seed, fpd, 4.0) for seed, fpd in enumerate((1.0, 1.1, 1.2))]
    trials += [trial("wgan", "20m", 0, 9.0, 2.0), *(trial("wgan", "20m", n, 0, state="failed", cause="ended") for n in (1, 2))]  # fmt: skip
    trials += [trial("diffusion", "20m", n, 0, state="failed", cause="diverged") for n in range(3)]
    return FamilyComparison.of(trials, ["vae", "tree", "wgan", "diffusion"], [20], seeds=3)


def test_families_are_ranked_with_their_spread_over_seeds() -> None:
    found = small()
    assert [line.family for line in found.lines] == ["tree", "vae", "wgan", "diffusion"]
    _, vae, wgan, none = found.lines
    assert vae.figures["fpd"].mean == pytest.approx(3)
    assert vae.spread("fpd") == pytest.approx(1)
    assert vae.error("fpd") == pytest.approx(1 / math.sqrt(3))
    assert (wgan.trials, wgan.error("fpd"), none.trials) == (1, 0.25, 0)  # of one training: that of its showers
    assert found.floor("auc") == 0.05
    table = comparison_markdown(found)
    assert "| tree | 20m | 3 | 0.11 ± 0.01 |" in table
    assert "| vae | 20m | 3 | 0.3 ± 0.1 | 0.3 ± 0.1 | 3 ± 1 |" in table
    assert "| wgan | 20m | 1 of 3 |" in table
    assert "| diffusion | 20m | 0 of 3 | - |" in table
    assert "| Geant4 itself |  |  | 0.05 |" in table
    assert "diffusion, 20m: 3 failed: diverged" in table


def test_the_front_has_what_nothing_else_beats() -> None:
    found = small()
    assert [line.family for line in found.front("fpd")] == ["vae", "tree"]  # wgan is slower and worse than vae
    assert [line.family for line in found.front("prd_auc_voxels")] == ["vae", "wgan"]  # more of it is better


def test_the_plot_and_the_page_show_every_family() -> None:
    found = small()
    figure = draw(found)
    assert [axes.get_ylabel() for axes in figure.axes][:3] == ["AUC", "voxel AUC", "FPD"]
    dashed = [line for line in figure.axes[2].get_lines() if line.get_linestyle() == "--"]
    assert dashed[0].get_ydata()[0] == 0.05
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["tree", "vae", "wgan", "Geant4 itself", "Pareto front"]
    page = comparison_html(found)
    assert "<td>diffusion</td>" in page
    assert "data:image/png;base64," in page
    nothing = FamilyComparison.of([], ["vae"], [1], seeds=2)
    assert "<td>vae</td>" in comparison_html(nothing)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_time_alone_ends_every_training_of_every_family(family: str) -> None:
    config = resolve(family, "demo", endless(family, "demo"))
    trainings = [value for _, value in config if isinstance(value, TrainingConfig)]
    assert trainings
    assert {training.steps for training in trainings} == {ENDLESS}


@pytest.mark.parametrize(("text", "minutes"), [("20m", 20), ("15s", 0.25), ("2h", 120), ("1.5h", 90)])
def test_budgets_are_read_and_written(text: str, minutes: float) -> None:
    assert budget_minutes(text) == pytest.approx(minutes)
    assert budget_minutes(budget_text(minutes)) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["20", "m", "-3m", "0s", "1 day", "nan", "1e400h"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a number with its unit"):
        budget_minutes(text)


def test_a_setting_may_be_of_one_family() -> None:
    given = ["training.steps=3", "vae:training.steps=4", "tree:x=a:b", "y=c:d"]
    assert of_family(given, "vae") == ["training.steps=3", "training.steps=4", "y=c:d"]
    assert of_family(given, "tree") == ["training.steps=3", "x=a:b", "y=c:d"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"budgets": [0]}, "budgets must be positive"),
        ({"seeds": 0}, "seeds must be positive"),
        ({"budgets": [1, 1]}, "budget 1m is given twice"),
        ({"families": ["vae", "vae"]}, "family vae is given twice"),
        ({"families": ["vae"], "seeds": 1}, "one training is no comparison"),
        ({"families": ["vaes"]}, "did you mean 'vae'"),
        ({"overrides": {"tree": {}}}, "overrides: tree is none of the families that are compared: vae, wgan"),
        ({"overrides": {"vae": {"training": {"step": 1}}}}, "did you mean 'training.steps'"),
        ({"vary": ["training.weight_decays=1"]}, "none of vae, wgan has such a setting"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    changes: dict[str, Any], text: str, small_showers: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"families": ["vae", "wgan"], "budgets": [1], **changes}
    with pytest.raises(InputError, match=text):
        module.compare_families(small_showers, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_backend_gets_all_families_budgets_and_seeds(
    small_showers: Path, small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def run(experiment: dict[str, Any], _: Path, *, timeout: float | None) -> Tuning:
        given.append(experiment)
        return Tuning("fpd", False, [trial(f, "1m", n, 1.0) for f in ("vae", "tree") for n in (4, 5)])

    monkeypatch.setattr("caloforge.tuning.trials.run_experiment", run)
    options: dict[str, Any] = {
        "families": ["vae", "tree"], "seeds": 2, "seed": 4, "prepared": small_prepared,
        "overrides": {"vae": {"training": {"batch_size": 9}}},
    }  # fmt: skip
    found = module.compare_families(small_showers, tmp_path / "out", budgets=[1], **options)
    (experiment,) = given
    check_experiment(experiment)
    assert experiment["spec"]["maxTrialCount"] == 4
    assert [one["name"] for one in experiment["spec"]["parameters"]] == [
        "family",
        "seed",
    ]  # one budget is none to choose
    pod = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]
    words = pod["command"] + pod["args"]
    for word in ("--budget=1m", "--set=vae:training.batch_size=9", "--family=${trialParameters.family}"):
        assert word in words
    assert [line.trials for line in found.lines] == [2, 2]
    assert read_json(tmp_path / "out" / "comparison.json")["families"][0]["figures"]["fpd"] == [1.0, 1.0]
    monkeypatch.setattr("caloforge.tuning.trials.run_experiment", lambda *_, **__: Tuning("fpd", False, []))
    with pytest.raises(TrialFailed, match="nothing to compare"):
        module.compare_families(small_showers, tmp_path / "none", budgets=[1, 2], **options)
    assert (tmp_path / "none" / "comparison.md").is_file()


def test_katib_takes_the_same_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def run_on_katib(experiment: dict[str, Any], *_: object, timeout: float | None) -> Tuning:
        given.append(experiment)
        return Tuning("fpd", False, [trial(f, b, n, 1.0) for f in FAMILIES for b in ("1m", "2m") for n in (0, 1, 2)])

    monkeypatch.setattr("caloforge.cluster.connect", lambda namespace: SimpleNamespace(namespace=namespace or "mine"))
    monkeypatch.setattr("caloforge.tuning.katib.run_on_katib", run_on_katib)
    found = module.compare_families("s3://b/showers.hdf5", tmp_path / "out", budgets=[1, 2], backend="katib")
    (experiment,) = given
    check_experiment(experiment)
    assert experiment["spec"]["parameters"][0]["feasibleSpace"]["list"] == list(FAMILIES)  # whatever is registered
    assert len(found.lines) == 2 * len(FAMILIES)


def test_ablations_are_of_the_families_that_have_the_setting(
    small_showers: Path, small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def ablate(*_: object, family: str, vary: Any, **more: Any) -> Any:
        asked.append((family, more["max_minutes"]))
        raise TrialFailed("far enough")

    monkeypatch.setattr(
        "caloforge.tuning.trials.run_experiment", lambda *_, **__: Tuning("fpd", False, [trial("vae", "1m", 0, 1.0)])
    )
    monkeypatch.setattr(module, "ablate", ablate)
    with pytest.raises(TrialFailed, match="far enough"):
        module.compare_families(
            small_showers, tmp_path / "out", budgets=[2, 1], families=["tree", "vae"], prepared=small_prepared,
            vary=["preprocessing.voxel_scaling=logit"],
        )  # fmt: skip
    assert asked == [("vae", 1)]  # the tree does not code voxels


def test_the_figures_are_those_of_a_validation(small_showers: Path) -> None:
    showers = open_showers(small_showers)
    reference, generated, floor = (showers.select(np.arange(start, 300, 3)) for start in range(3))
    found, floors = headline_figures(reference, generated, floor=floor, names=["fpd", "mean_separation"], seed=2)
    assert set(found) == {"fpd", "mean_separation"}  # the slow ones are left out
    threshold = showers.threshold
    assert threshold is not None
    x, y, z = (high_level_features(summarise(one, threshold=threshold)) for one in (floor, generated, reference))
    # As in a report, both are compared with the second sample.
    assert found["fpd"].value == pytest.approx(FEATURE_METRICS.get("fpd").function(x, y, 2).value)
    assert floors["fpd"].value == pytest.approx(FEATURE_METRICS.get("fpd").function(x, z, 2).value)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.mark.slow
def test_the_command_trains_and_goes_on(small_showers: Path, tmp_path: Path) -> None:
    command = [
        "compare-families", "--data", small_showers, "--families", "vae,tree", "--budget", "2s", "--seeds", 1,
        "-o", tmp_path / "out",
    ]  # fmt: skip
    first = invoke(*command)
    assert first.exit_code == 0, first.output
    content = read_json(tmp_path / "out" / "comparison.json")
    assert {line["family"] for line in content["families"]} == {"vae", "tree"}
    for line in content["families"]:
        (seconds,) = line["figures"]["train_seconds"]
        assert 1 < seconds < 4  # CPU, however busy the machine is; a step or two may begin before the time is up
        assert all(len(values) == 1 for values in line["figures"].values())
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "trials").glob("*/trial.json")}
    assert len(done) == 2
    assert invoke(*command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in done} == done
