from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from object_store import ObjectStore, serving

from caloforge import cli
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.configuration import TrainingRequest
from caloforge.outputs import RECORD
from caloforge.tuning.objective import TrialFailed, objective_names
from caloforge.tuning.result import Trial, Tuning
from caloforge.tuning.rules import check_experiment
from caloforge.tuning.trial import run_trial
from caloforge.tuning.tune import tune

pytestmark = pytest.mark.slow

QUICK = ["training.steps=4", "energies.steps=4", "model.network.width=16", "model.network.blocks=1"]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def test_a_trial_prints_its_figures(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    settings = [word for setting in QUICK for word in ("--set", setting)]
    output = tmp_path / "trial"
    result = invoke(
        "trial", "--data", small_showers, "--prepared", small_prepared, "--family", "vae", *settings, "-o", output
    )
    assert result.exit_code == 0, result.output
    times, pairs = zip(*(line.split(" ") for line in result.stdout.splitlines()), strict=True)
    assert all(datetime.fromisoformat(time).tzinfo is not None for time in times), "RFC 3339, as Katib reads it"
    printed = dict(pair.split("=") for pair in pairs)
    figures = read_json(output / "trial.json")["figures"]
    assert list(printed)[:2] == ["auc", "fpd"]
    for name, value in figures.items():
        assert float(printed[name]) == pytest.approx(value, rel=1e-5)
    assert {path.name for path in output.iterdir()} == {"bundle", "trial.json", RECORD}


@pytest.mark.slow
def test_looks_change_nothing(small_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    """What is judged on the way is the generator as it would be used, and its training does not notice."""
    settings = {"training": {"steps": 12}, "energies": {"steps": 4}, "model": {"network": {"width": 16}}}
    seen: list[dict[str, float]] = []
    results = [
        run_trial(
            TrainingRequest(
                showers=small_showers, prepared=small_prepared, output=tmp_path / str(looks), family="flow_matching",
                overrides=settings, seed=1,
            ),
            objective="fpd", looks=looks, report=lambda figures: seen.append(dict(figures)),
        ) for looks in (0, 3)
    ]  # fmt: skip
    quiet, watched = results
    assert [list(figures) for figures in seen[1:4]] == [["fpd"]] * 3
    assert len(seen) == 5
    assert quiet["fpd"] == watched["fpd"]
    weights = [(tmp_path / name / "bundle" / "weights.safetensors").read_bytes() for name in ("0", "3")]
    assert weights[0] == weights[1]


def test_a_trial_fetches_its_data(
    small_showers: Path, small_prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore()
    store.objects["mlpipeline/showers.hdf5"] = small_showers.read_bytes()
    for path in small_prepared.iterdir():
        store.objects[f"mlpipeline/runs/prepared/{path.name}"] = path.read_bytes()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    settings = [word for setting in QUICK for word in ("--set", setting)]
    output = tmp_path / "trial"
    with serving(store):
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        result = invoke(
            "trial", "--data", "minio://mlpipeline/showers.hdf5", "--prepared", "minio://mlpipeline/runs/prepared",
            "--family", "vae", *settings, "-o", output,
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert read_json(output / "trial.json")["figures"]["fpd"] > 0
    assert "planted-secret" not in result.output
    assert not [path for path in output.rglob("*.json") if "planted-secret" in path.read_text()]


@pytest.mark.slow
def test_tune_on_the_command_line(small_showers: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    fixed = {"training.steps": 4, "energies.steps": 4, "model.network.width": 16}
    ranges = {path: {"type": "categorical", "values": [value, value + 4]} for path, value in fixed.items()}
    space.write_text(yaml.safe_dump(ranges))
    output = tmp_path / "tuned"
    options = ["--family", "coupling_flow", "--trials", 1, "--space", space, "--seed", 1]
    result = invoke("tune", "--data", small_showers, *options, "-o", output)
    assert result.exit_code == 0, result.output
    assert set(read_json(output / "overrides.json")) == {"training", "energies", "model"}
    assert "| tune-coupling-flow-0000 |" in result.stdout
    (trial,) = read_json(output / "trials.json")
    assert set(trial["metrics"]) == set(objective_names())


def test_on_a_cluster_the_pods_prepare_and_write_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def run_on_katib(experiment: dict[str, Any], api: object, *, timeout: float | None) -> Tuning:
        assert timeout == 90
        given.append(experiment)
        parameters = {"training.learning_rate": 0.001, "model.network.width": 96}
        return Tuning("fpd", False, [Trial("tune-vae-x7", "succeeded", parameters, {"fpd": 1.0}, None)])

    monkeypatch.setattr("caloforge.cluster.connect", lambda namespace: SimpleNamespace(namespace=namespace or "mine"))
    monkeypatch.setattr("caloforge.tuning.katib.run_on_katib", run_on_katib)
    pod = tmp_path / "pod.yaml"
    pod.write_text("namespace: physics\nimage: registry/caloforge:1\nclaims: {showers: /data}\n")
    given_overrides = tmp_path / "overrides.yaml"
    given_overrides.write_text("training: {batch_size: 16}\n")
    options = ["--backend", "katib", "--pod", pod, "--geometry", "dataset_2", "--trials", 3, "--algorithm", "sobol"]
    options += ["--timeout-minutes", 1.5, "--early-stopping", "--overrides", given_overrides]
    result = invoke("tune", "--data", "s3://physics/showers.hdf5", "--family", "vae", *options, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (experiment,) = given
    check_experiment(experiment)
    assert experiment["metadata"]["namespace"] == "physics"
    job = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    words = [*job["containers"][0]["command"], *job["containers"][0]["args"]]
    assert {
        "--data=s3://physics/showers.hdf5", "--geometry=dataset_2", "--output=/tmp/${trialParameters.trial}",
        "--set=training.batch_size=16", "--objective=fpd", "--looks=9",
    } <= set(words)  # fmt: skip
    assert "training-batch_size" not in [one["name"] for one in experiment["spec"]["parameters"]], "it is given"
    assert experiment["spec"]["earlyStopping"]["algorithmName"] == "medianstop"
    assert not [word for word in words if "prepared" in word]
    best = read_json(tmp_path / "out" / "overrides.json")
    assert best["model"] == {"network": {"width": 96}}
    assert best["training"] == {"batch_size": 16, "learning_rate": 0.001}, "what was given wins"


@pytest.mark.parametrize("required", [True, False])
def test_a_search_that_finds_nothing(
    required: bool,
    small_showers: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = Trial("tune-vae-x7", "failed", {"model.beta": 0.5}, {}, None, cause="OOMKilled: memory is 3Gi")
    nothing = Tuning("fpd", False, [failed], ended="ExperimentFailed: max failed count has reached")
    monkeypatch.setattr("caloforge.cluster.connect", lambda namespace: SimpleNamespace(namespace=namespace or "mine"))
    monkeypatch.setattr("caloforge.tuning.katib.run_on_katib", lambda *_, **__: nothing)
    options: dict[str, Any] = {
        "family": "vae", "trials": 3, "backend": "katib", "overrides": {"training": {"batch_size": 16}},
        "required": required,
    }  # fmt: skip
    if required:
        with pytest.raises(TrialFailed, match="no trial gave fpd: ExperimentFailed: max failed count has reached"):
            tune("s3://physics/showers.hdf5", tmp_path / "out", **options)
    else:
        result = tune("s3://physics/showers.hdf5", tmp_path / "out", **options)
        assert result.overrides() == {"training": {"batch_size": 16}}, "what was given"
        (line,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert line.startswith("tune vae: no trial gave fpd: the family keeps its own parameters; ended early: Exp")
    assert read_json(tmp_path / "out" / "trials.json")[0]["cause"] == "OOMKilled: memory is 3Gi"
    assert "| tune-vae-x7 | failed: OOMKilled: memory is 3Gi |" in (tmp_path / "out" / "tuning.md").read_text()


def test_wrong_options_start_nothing(small_showers: Path, tmp_path: Path) -> None:
    def refused(**options: object) -> str:
        settings = {"family": "vae", "trials": 2, **options}
        with pytest.raises(InputError) as error:
            tune(small_showers, tmp_path / "out", **settings)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()
        return str(error.value)

    assert "did you mean 'fpd'" in refused(objective="fdp")
    assert "cannot be used here" in refused(algorithm="hyperband")
    assert "did you mean 'random'" in refused(algorithm="randon")
    assert "infinitely many" in refused(algorithm="grid")
    assert "categorical" in refused(algorithm="cmaes")
    assert "did you mean 'vae'" in refused(family="vea")
    assert "did you mean 'training'" in refused(overrides={"trainin": {}})
    assert "timeout_minutes must be positive" in refused(timeout_minutes=0)
    width = {"type": "int", "min": 16, "max": 32, "step": 16}
    fixed = {"model": {"network": {"width": 16}}}
    assert "nothing is left to search" in refused(space={"model.network.width": width}, overrides=fixed)


@pytest.mark.parametrize(
    ("verb", "options", "message"),
    [
        ("tune", ("--family", "vea", "--trials", "1"), "did you mean 'vae'"),
        ("tune", ("--family", "vae", "--trials", "0"), "--trials"),
        ("trial", ("--family", "vae", "--set", "training.steps"), "PATH=VALUE"),
        ("trial", ("--family", "vae", "--set", "a=1", "--set", "a=2"), "given twice"),
    ],
)
def test_wrong_commands(verb: str, options: tuple[str, ...], message: str, small_showers: Path, tmp_path: Path) -> None:
    result = invoke(verb, "--data", small_showers, *options, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
