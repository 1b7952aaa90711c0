"""Samples are told apart by how likely they are to a generator, and one that cannot say it is refused at once."""

import numpy as np
import pytest
from click.testing import CliRunner
from small_families import quick

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.models.configuration import TrainingRequest
from caloforge.models.training.train import train
from caloforge.showers import open_showers
from caloforge.validation.figures.likelihood import Scorer, Scores, likelihood_rows
from caloforge.validation.judgement import Judgement
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tree(small_showers, small_prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree") / "tree"
    request = TrainingRequest(
        showers=small_showers, prepared=small_prepared, output=folder, family="tree", overrides=quick("tree"), seed=3
    )
    train(request)
    return folder


def scores(seed: int, n: int = 2000, *, shift: float = 0.0, stretch: float = 1.0, impossible: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    distance = stretch * rng.chisquare(4, n)
    distance[:impossible] = 1e6
    return Scores(rng.standard_normal(n - impossible) + shift, distance)


def test_either_a_shift_or_other_parts_are_found():
    generated = {
        "same": scores(3),
        "too ordinary": scores(4, shift=0.3),
        "unlikely": scores(5, shift=-0.3),
        "parts": scores(6, stretch=1.3),
        "none": scores(7, impossible=2000),
    }
    found = {(row.generator, row.name): row for row in likelihood_rows(scores(1), scores(2), generated)}
    for name, shift, parts in (
        ("same", False, False),
        ("too ordinary", True, False),
        ("unlikely", True, False),
        ("parts", False, True),
        ("none", True, True),
    ):
        assert (found[name, "log_likelihood"].sigma > 4) == shift
        assert (found[name, "likelihood_parts"].sigma > 4) == parts
    first = found["too ordinary", "log_likelihood"]
    assert first.value == pytest.approx(0.3, abs=3 * first.error)
    assert first.error == pytest.approx(np.sqrt(2 / 2000), rel=0.1)
    assert (first.floor, first.reference) == (pytest.approx(0, abs=3 * first.error), None)
    assert found["none", "log_likelihood"].value is None
    assert found["none", "log_likelihood"].extra == {"impossible": 2000}


def test_the_largest_difference_has_the_error_it_has_between_equal_samples():
    pairs = [likelihood_rows(scores(i), scores(i), {"g": scores(1000 + i)}) for i in range(200)]
    rows = [row for pair in pairs for row in pair if row.name == "likelihood_parts"]
    assert np.std([row.value for row in rows]) == pytest.approx(rows[0].error, rel=0.2)  # 5 % is its own error
    assert np.mean([row.sigma > 1 for row in rows]) == pytest.approx(0.16, abs=0.08)  # three standard deviations


def test_the_command_compares_and_draws(tree, demo_showers, write, tmp_path, monkeypatch):
    for others in ("_profiles", "_conditions", "_distributions", "_maps", "_classifier"):  # seconds saved
        monkeypatch.setattr(f"caloforge.validation.plots.write.{others}", lambda *_: ())
    showers = open_showers(demo_showers)
    split = [showers.select(range(*ends)) for ends in ((300, 450), (450, 600), (600, 750))]
    geometry = showers.geometry
    files = [
        write(name, geometry, part.conditions.incident_energy, part.read(threshold=showers.threshold))
        for name, part in zip(("reference", "floor", "good"), split, strict=True)
    ]
    dead_layer = split[2].read(threshold=showers.threshold)
    dead_layer[:, geometry.layer_slices[6]] = 0
    files.append(write("dead", geometry, split[2].conditions.incident_energy, dead_layer))
    options = [f"--{name}={file.path}" for name, file in zip(("reference", "floor", "generated"), files, strict=False)]
    command = ["validate", *options, "--generated", str(files[3].path), "--likelihood", str(tree)]
    result = CliRunner().invoke(main, [*command, "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    metrics = Judgement.read(tmp_path / "out" / "metrics.json")
    good, dead = (metrics.row(name, "physics", "likelihood_parts") for name in ("good", "dead"))
    assert good.sigma < 3 < dead.sigma
    assert metrics.row("dead", "physics", "log_likelihood").tested
    assert metrics.provenance["inputs"]["likelihood"]["file"] == "weights.safetensors"
    assert (tmp_path / "out" / "plots" / "log_likelihood.png").is_file()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "by the exact likelihood of the generator" in page
    assert "Log-likelihood at given incident energy" in page


def test_impossible_showers_are_counted_and_warned_of(tree, demo_showers, write, tmp_path, monkeypatch):
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    showers = open_showers(demo_showers).select(range(300, 420))
    energy, voxels = showers.conditions.incident_energy, showers.read(threshold=showers.threshold)
    reference = write("reference", showers.geometry, energy, voxels)
    voxels[:2] = 0  # the generator has seen no shower without energy
    generated = write("generated", showers.geometry, energy, voxels)
    metrics = validate(reference, {"some empty": generated}, tmp_path / "out", likelihood=tree)
    count = metrics.row("some empty", "physics", "log_likelihood").extra["impossible"]
    assert 1 <= count <= 2  # of the half that is compared
    assert any(f"some empty: {count:.0f} of 60 showers have the probability 0" in text for text in metrics.warnings)


def test_what_cannot_score_is_refused_before_anything_is_compared(
    tree, tiny_bundle, small_showers, mesh, toy_showers, write, tmp_path, monkeypatch
):
    monkeypatch.setattr("caloforge.validation.validate._choose", None)  # nothing is done after the checks
    showers = open_showers(small_showers)

    def judge(bundle, reference, generated):
        validate(reference, {"g": generated}, tmp_path / "out", likelihood=bundle)

    with pytest.raises(InputError, match="cannot say how likely the reference is: family 'vae' has no likelihood"):
        judge(tiny_bundle, showers, showers)
    toy = write("toy", mesh, *toy_showers(mesh, 200, 1))
    with pytest.raises(InputError, match="its mesh toy is not that of the generator"):
        judge(tree, toy, toy)
    high = write("high", showers.geometry, 1.5 * showers.conditions.incident_energy, 1.5 * showers.read())
    with pytest.raises(InputError, match=r"cannot say how likely the sample g is: .* outside the trained range"):
        judge(tree, showers, high)
    with pytest.raises(InputError, match="not a generator bundle"):
        judge(tmp_path / "none", showers, showers)
    monkeypatch.setattr("caloforge.validation.figures.likelihood.read_calibration", lambda _: None)
    with pytest.raises(InputError, match="did not keep what is usual; train the generator again"):
        Scorer.open(tree, {"reference": showers})
    assert not (tmp_path / "out").exists()
