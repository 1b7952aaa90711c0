import shutil
from pathlib import Path

import numpy as np
import pytest

from caloforge.domain import spread_over
from caloforge.models.agreement import TOLERANCE
from caloforge.models.bundle import load_bundle
from caloforge.serving.errors import ServingError
from caloforge.serving.smoke import check_onnx, smoke_test

pytestmark = pytest.mark.slow


def test_energies_are_spread_over_the_trained_range(tiny_bundle: Path) -> None:
    generator = load_bundle(tiny_bundle)
    conditions = spread_over(generator.domains, 10)
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
    conditions = spread_over(generator.domains, 6)
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
