import shutil
from pathlib import Path

import numpy as np
import pytest

from caloforge.models.bundle import load_bundle
from caloforge.serving.errors import ServingError
from caloforge.serving.smoke import TOLERANCE, check_onnx, relative_difference, smoke_test, spread_conditions

THRESHOLD = 0.5


def showers() -> np.ndarray:
    values = np.random.default_rng(0).uniform(1, 10, (3, 50)).astype(np.float32)
    values[:, ::2] = 0
    return values


def test_a_difference_is_a_share_of_its_own_shower() -> None:
    expected = showers()
    other = expected.copy()
    other[1, 3] += 0.02 * expected[1].sum()
    np.testing.assert_allclose(relative_difference(other, expected, THRESHOLD), [0, 0.02, 0], rtol=1e-4)


def test_a_voxel_at_the_threshold_may_be_zeroed_on_one_side_only() -> None:
    expected = showers()
    other = expected.copy()
    other[0, 0] = THRESHOLD * 1.01
    other[0, 1] -= THRESHOLD * 1.01  # which its layer gave
    assert not relative_difference(other, expected, THRESHOLD).any()


def test_a_voxel_far_above_the_threshold_may_not_be_zeroed() -> None:
    expected = showers()
    other = expected.copy()
    other[0, 0] = THRESHOLD * 3
    assert relative_difference(other, expected, THRESHOLD)[0] > TOLERANCE


def test_many_voxels_at_the_threshold_are_no_rounding() -> None:
    expected = showers()
    other = expected.copy()
    other[0, :6:2] = THRESHOLD * 1.01
    assert relative_difference(other, expected, THRESHOLD)[0] > TOLERANCE


def test_an_empty_shower_agrees_with_an_empty_shower_only() -> None:
    empty = np.zeros((1, 50), np.float32)
    assert not relative_difference(empty, empty, THRESHOLD).any()
    assert relative_difference(showers()[:1], empty, THRESHOLD)[0] > TOLERANCE


def test_energies_are_spread_over_the_trained_range(tiny_bundle: Path) -> None:
    generator = load_bundle(tiny_bundle)
    conditions = spread_conditions(generator, 5, 2)
    assert conditions.names == generator.condition_names
    assert (conditions.incident_energy[0], conditions.incident_energy[-1]) == pytest.approx(generator.energy_range)
    generator.check(conditions)


@pytest.mark.parametrize(("factor", "agrees"), [(1 + 1e-6, True), (1.01, False)])
def test_an_onnx_file_must_make_the_same_showers(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float, agrees: bool
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    (bundle / "onnx.json").write_text('{"steps": null}')
    generator = load_bundle(bundle)
    conditions = spread_conditions(generator, 3, 2)
    replayed = generator.sample(conditions, seed=5) * np.float32(factor)
    monkeypatch.setattr("caloforge.serving.smoke.run_onnx", lambda *_, **__: replayed)
    if agrees:
        assert check_onnx(bundle, conditions, seed=5) <= TOLERANCE
    else:
        with pytest.raises(ServingError, match="the ONNX file's showers are not those of in-process sampling: 6 of 6"):
            check_onnx(bundle, conditions, seed=5)


def test_a_real_bundle_passes_and_the_server_ends_well(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests want the cores too
    figures = smoke_test(tiny_bundle, seed=3)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert figures["max_relative_difference"] <= TOLERANCE
    assert figures["latency_ms"] > 0
