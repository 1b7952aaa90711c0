"""The measurement itself, on a small generator."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.models.bundle import load_bundle, read_bundle_config
from caloforge.models.engines.variant import EngineUnavailable, Variant
from caloforge.models.export import export
from caloforge.models.registries import ENGINES
from caloforge.preprocessing.prepared import open_split
from caloforge.showers import Conditions, open_showers, write_showers
from caloforge.tuning.inference.candidates import Candidate
from caloforge.tuning.inference.graphs import quantised_dynamic, quantised_static
from caloforge.tuning.inference.optimise import optimise, two_samples
from caloforge.tuning.inference.record import Optimisation, OptimiseSettings
from caloforge.tuning.inference.stopwatch import running

pytestmark = pytest.mark.slow

FEW = Conditions(np.geomspace(2e3, 5e4, 5))


@pytest.fixture(scope="module")
def optimised(
    tiny_bundle: Path, small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("optimised") / "bundle"
    reference, other = two_samples(small_showers, small_prepared)
    optimise(tiny_bundle, reference, other, folder, settings=OptimiseSettings(sizes=(1, 20), tolerance=3), seed=1)
    return folder


@pytest.mark.slow
def test_the_choice_is_in_the_bundle_with_its_reasons(optimised: Path) -> None:
    found = Optimisation.model_validate_json((optimised / "optimisation.json").read_text())
    assert found.candidates[0].variant.name == "PyTorch fp32"
    assert found.winner.variant.name == found.chosen
    assert {one.variant.engine for one in found.candidates} == {"pytorch", "onnxruntime", "cpp"}
    assert {"fp32", "int8"} <= {one.variant.precision for one in found.candidates}
    for one in found.candidates:
        assert set(one.ms) == {1, 20} or one.refused
        if one.fidelity is not None:
            assert one.peak_mb > 50
            assert one.graph_mb > 0.01
            assert one.load_seconds > 0
    assert found.winner.speed == max(one.speed for one in found.candidates if not one.refused)
    table = (optimised / "optimisation.md").read_text()
    assert f"**{found.chosen}**" in table
    assert "Geant4 itself" in table
    assert (optimised / "optimisation.png").read_bytes().startswith(b"\x89PNG")
    assert (optimised / "variant.json").is_file() == (found.chosen != "PyTorch fp32")
    assert found.provenance["inputs"]["showers"]["sha256"]


@pytest.mark.slow
def test_an_optimised_bundle_makes_the_showers_of_the_generator(optimised: Path, tiny_bundle: Path) -> None:
    ours, theirs = load_bundle(optimised).sample(FEW, seed=2), load_bundle(tiny_bundle).sample(FEW, seed=2)
    assert np.abs(ours - theirs).max() < 0.05 * theirs.sum(1).max()
    assert set(read_bundle_config(optimised)["files"]) >= {"optimisation.json", "generator.onnx"}


@pytest.mark.slow
def test_a_process_tells_what_it_cannot_do(tiny_bundle: Path, tmp_path: Path) -> None:
    missing = Variant(name="missing", engine="onnxruntime", graph="none.onnx")
    told = pytest.raises(EngineUnavailable, match=r"missing: .*cannot load none\.onnx")
    with running(tiny_bundle, missing, tmp_path) as runner, told:
        runner.start(FEW)
    with running(tiny_bundle, Variant(name="plain"), tmp_path) as runner:
        runner.start(FEW)
        assert np.array_equal(runner.draw(5, 2), load_bundle(tiny_bundle).sample(FEW, seed=2))
        assert runner.seconds(1) > 0


def test_graphs_in_eight_bits_are_smaller_and_others(tiny_bundle: Path, tmp_path: Path) -> None:
    export(tiny_bundle, tmp_path / "bundle")
    graph = tmp_path / "bundle" / "generator.onnx"
    generator = load_bundle(tiny_bundle)
    feeds = [
        {"incident_energy": np.full((8, 1), 1e4, np.float32), "noise": np.random.default_rng(i).normal(
            size=(8, generator.network.noise_features)).astype(np.float32)} for i in range(3)
    ]  # fmt: skip
    plain = generator.sample(FEW, seed=2)
    for name, write in {"dynamic": quantised_dynamic, "static": quantised_static}.items():
        write(graph, tmp_path / f"{name}.onnx", *([feeds] if name == "static" else []))
        variant = Variant(name=name, engine="onnxruntime", graph=f"{name}.onnx", precision="int8")
        generator.run_as(variant, tmp_path)
        showers = generator.sample(FEW, seed=2)
        assert np.isfinite(showers).all()
        assert 1e-6 < np.abs(showers - plain).max() / plain.sum(1).max() < 0.2


def test_a_graph_without_matrices_cannot_be_quantised(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negative", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(EngineUnavailable, match="no matrix product"):
        quantised_dynamic(tmp_path / "a.onnx", tmp_path / "b.onnx")


def test_few_or_foreign_showers_are_refused_before_anything_is_measured(
    tiny_bundle: Path, small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    showers = open_split(small_showers, small_prepared, "validation")
    with pytest.raises(InputError, match=r"10 showers to judge by; 50 or more are needed"):
        optimise(tiny_bundle, showers.select(range(10)), showers, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_with_other_files_is_refused(
    tiny_bundle: Path, small_showers: Path, small_prepared: Path, tmp_path: Path
) -> None:
    shutil.copy(small_showers, tmp_path / "mine.hdf5")
    reference, other = two_samples(small_showers, small_prepared)
    with pytest.raises(InputError, match=r"mine\.hdf5"):
        optimise(tiny_bundle, reference, other, tmp_path)


def test_without_prepared_data_a_file_is_halved(small_showers: Path) -> None:
    reference, other = two_samples(small_showers, None, seed=3)
    assert len(reference) == len(other) == 150
    assert not set(reference.rows) & set(other.rows)
    assert len(open_showers(small_showers)) == 300


@pytest.mark.slow
def test_the_record_survives_json(optimised: Path) -> None:
    text = (optimised / "optimisation.json").read_text()
    assert json.loads(Optimisation.model_validate_json(text).model_dump_json()) == json.loads(text)


def test_the_command_reads_showers_and_refuses_too_few(tiny_bundle: Path, small_showers: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.hdf5"
    showers = open_showers(small_showers).select(range(80))
    attributes = {"energy_threshold": showers.threshold}
    with write_showers(few, showers.geometry, attributes=attributes, provenance={}) as writer:
        writer.append(showers.conditions, showers.read())
    words = ["optimise", "--bundle", str(tiny_bundle), "--data", str(few), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "40 showers to judge by; 50 or more are needed" in done.output
    assert CliRunner().invoke(main, [*words, "--sizes", "1,x"]).exit_code == 2
    assert not (tmp_path / "out").exists()


_DYING = """
import os, signal
from caloforge.models.engines.pytorch import open_engine as plain

def open_engine(variant, network, conditions, folder):
    draw = plain(variant, network, conditions, folder)

    def failing(columns, noise):
        if variant.name == "infinite":
            return draw(columns, noise) / 0
        if len(columns) > int(variant.name.split()[-1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(columns, noise)

    return failing
"""


@pytest.fixture
def dying_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An engine of another package, whose process is killed when it draws more showers than its variant's name says."""
    (tmp_path / "dying.py").write_text(_DYING)
    package = tmp_path / "dying-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: dying\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[caloforge.engines]\ndying = dying:open_engine\n")
    monkeypatch.syspath_prepend(tmp_path)
    ENGINES.__dict__.pop("_installed", None)
    yield
    ENGINES.__dict__.pop("_installed", None)


@pytest.mark.usefixtures("dying_engine")
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_candidate_that_dies_is_left_out_with_its_reason(
    tiny_bundle: Path, small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, other = two_samples(small_showers, None)
    names = ("killed at the first, 0", "killed while timed, 1", "killed while judged, 30", "infinite")
    tried = [Candidate(Variant(name="plain")), *(Candidate(Variant(name=name, engine="dying")) for name in names)]
    monkeypatch.setattr("caloforge.tuning.inference.optimise.candidates", lambda *_, **__: iter(tried))
    settings = OptimiseSettings(sizes=(1, 30))
    found = optimise(
        tiny_bundle, reference.select(range(50)), other.select(range(50)), tmp_path / "out", settings=settings
    )
    reasons = {one.variant.name: one.refused for one in found.candidates}
    ended = "its process ended; was there enough memory?"
    assert reasons == {
        "plain": "", **dict.fromkeys(names, ended), "infinite": "makes showers that are not finite"
    }  # fmt: skip
    table = (tmp_path / "out" / "optimisation.md").read_text()
    assert table.count(ended) == 3
    assert found.chosen == "plain"


@pytest.mark.usefixtures("dying_engine")
def test_without_what_all_are_compared_with_nothing_is_measured(
    tiny_bundle: Path, small_showers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = [Candidate(Variant(name="killed 1", engine="dying")), Candidate(Variant(name="other"))]
    monkeypatch.setattr("caloforge.tuning.inference.optimise.candidates", lambda *_, **__: iter(tried))
    with pytest.raises(EngineUnavailable, match="killed 1: its process ended"):
        optimise(
            tiny_bundle, *two_samples(small_showers, None), tmp_path / "out", settings=OptimiseSettings(sizes=(1, 5))
        )
    assert not (tmp_path / "out").exists()
