import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Layer
from caloforge.validation.judgement import Judgement
from caloforge.validation.registries import OBSERVABLES
from caloforge.validation.report.leaderboard import leaderboard
from caloforge.validation.validate import validate

pytestmark = pytest.mark.slow


def numbers(content):
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for item in content:
            yield from numbers(item)
    elif isinstance(content, float | int):
        yield content


def test_two_generators_against_a_second_sample(judged):
    metrics, output = judged
    bad = "</script><b>$bad"
    assert Judgement.read(output / "metrics.json") == metrics
    assert all(math.isfinite(number) for number in numbers(json.loads((output / "metrics.json").read_text())))
    assert metrics.n == 300
    assert metrics.floor.kind == "second sample"
    assert metrics.threshold_mev == pytest.approx(0.1)
    assert metrics.generators["good"].milliseconds_per_shower == 1.5
    without_angles = {name for name in OBSERVABLES if not name.startswith(("centre_residual", "neighbour_corr"))}
    expected = {*without_angles, "voxel_energy", "voxel_energy_groups"}
    assert set(metrics.table("separation")) == expected
    assert metrics.row("good", "headline", "auc").value < 0.6
    assert metrics.row(bad, "headline", "auc").value > 0.8
    row = metrics.row(bad, "separation", "layer_energy")
    assert row.sigma > 3
    assert row.worst == "layer 1"
    assert row.phrase == "layer energy, layer 1"
    assert row.parts.where == tuple(f"layer {i}" for i in range(6))
    assert np.mean(row.parts.value) == pytest.approx(row.value)
    assert row.parts.value.index(max(row.parts.value)) == 1
    assert leaderboard(metrics).winner == "good"
    assert metrics.warnings == ()

    rows = list(csv.DictReader((output / "tables.csv").read_text().splitlines()))
    row = next(row for row in rows if (row["generator"], row["kind"], row["name"]) == (bad, "headline", "auc"))
    assert float(row["value"]) == metrics.row(bad, "headline", "auc").value
    assert {row["kind"] for row in rows} == {"headline", "separation", "wasserstein", "physics", "in_bins"}
    assert metrics.verdict.sentence in (output / "summary.md").read_text()


def test_the_reference_is_halved_without_a_second_sample(
    irregular_mesh, toy_showers, write, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("caloforge.validation.validate.write_plots", lambda *_, **__: [])  # seconds saved
    energy, voxels = toy_showers(irregular_mesh, 300, 1)
    voxels[:, irregular_mesh.layer_slices[3]] = 0  # an empty layer in all showers
    reference = write("reference", irregular_mesh, energy, voxels)
    low = write("low", irregular_mesh, energy[energy < 3000], voxels[energy < 3000])
    itself = replace(reference, attributes={**reference.attributes, "variant": "ONNX Runtime"})
    low = replace(low, attributes={**low.attributes, "variant": 7})  # not of ours
    metrics = validate(reference, {"itself": itself, "low": low}, tmp_path / "out")
    assert [metrics.generators[name].variant for name in ("itself", "low")] == ["ONNX Runtime", None]
    assert metrics.n == (energy < 3000).sum() < 150
    assert metrics.floor.kind == "halves of the reference"
    itself = metrics.row("itself", "headline", "mean_separation")
    # The same rows of it are compared with the other half as for the floor.
    assert itself.value == itself.floor > 0
    assert itself.sigma < 0
    assert metrics.generators["itself"].milliseconds_per_shower is None
    assert metrics.warnings[0].startswith("low: its incident energies")
    assert metrics.warnings[0] in caplog.text


@pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (-1.0, "-1.0"), (np.inf, "inf")])
def test_a_bad_voxel_is_named_with_its_row(value, text, mesh, toy_showers, write, tmp_path):
    energy, voxels = toy_showers(mesh, 200, 1)
    reference = write("reference", mesh, energy, voxels)
    broken = voxels.copy()
    broken[17, 5] = value
    generated = write("broken", mesh, energy, broken).select(np.arange(10, 110))
    with pytest.raises(InputError, match=rf"broken.hdf5: showers: row 17, voxel 5 is {text}"):
        validate(reference, {"g": generated}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unlike_voxels_and_layers_are_refused(mesh, toy_showers, write, tmp_path):
    reference = write("reference", mesh, *toy_showers(mesh, 200, 1))
    small = CylindricalGeometry("small", mesh.layers[:5])
    with pytest.raises(InputError, match=r"60 voxels\), not 'toy' .*72 voxels"):
        validate(reference, {"g": write("small", small, *toy_showers(small, 60, 2))}, tmp_path / "out")
    other = CylindricalGeometry("other", (*mesh.layers[:5], Layer(5, (0.0, 5.0, 10.0, 21.0), 4)))
    with pytest.raises(InputError, match=r"layer 5 .*10, 21\)"):
        validate(reference, {"g": write("other", other, *toy_showers(other, 60, 2))}, tmp_path / "out")


def test_too_few_showers_are_refused(mesh, toy_showers, write, tmp_path):
    energy, voxels = toy_showers(mesh, 200, 1)
    reference = write("reference", mesh, energy, voxels)
    few = reference.select(np.arange(49))
    with pytest.raises(InputError, match="49 showers; a sample needs 50"):
        validate(reference, {"g": few}, tmp_path / "out")
    with pytest.raises(InputError, match="49 showers; the reference needs 100 or more, because it is halved"):
        validate(few, {"g": reference}, tmp_path / "out")
    with pytest.raises(InputError, match="no generated sample"):
        validate(reference, {}, tmp_path / "out")


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_mixed_units_are_recognised(factor, mesh, toy_showers, write, tmp_path):
    energy, voxels = toy_showers(mesh, 200, 1)
    reference = write("reference", mesh, energy, voxels)
    with pytest.raises(InputError, match=r"E_tot/E_inc .* GeV and MeV were mixed up"):
        validate(reference, {"g": write("voxels", mesh, energy, voxels * factor)}, tmp_path / "out")
    with pytest.raises(InputError, match=r"GeV and MeV were mixed up"):
        validate(reference, {"g": write("all", mesh, energy * factor, voxels * factor)}, tmp_path / "out")


def test_a_wrong_timing_is_refused(mesh, toy_showers, write, tmp_path):
    reference = write("reference", mesh, *toy_showers(mesh, 200, 1))
    with pytest.raises(InputError, match="timings: g: expected milliseconds"):
        validate(reference, {"g": reference}, tmp_path / "out", timings={"g": math.nan})
