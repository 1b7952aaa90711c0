"""A bundle runs as the variant that it was given, and as itself where that cannot be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.models.bundle import GeneratorFailed, load_bundle, read_bundle_config, seal_bundle
from caloforge.models.engines.variant import VARIANT_FILE, EngineUnavailable, Variant
from caloforge.models.export import export
from caloforge.models.registries import ENGINES
from caloforge.showers import Conditions

pytestmark = pytest.mark.slow

FEW = Conditions(np.geomspace(2e3, 5e4, 5))
ONNX = Variant(name="graph", engine="onnxruntime", graph="generator.onnx", threads=1)


@pytest.fixture(scope="module")
def exported(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export(tiny_bundle, folder)
    return folder


def _with(bundle: Path, folder: Path, variant: dict[str, object]) -> Path:
    """Copy a bundle and give it a variant."""
    shutil.copytree(bundle, folder, ignore=shutil.ignore_patterns(".*"))
    write_json(folder / VARIANT_FILE, variant)
    content = json.loads((folder / "config.json").read_text())
    seal_bundle(folder, {key: value for key, value in content.items() if key != "files"})
    return folder


def test_a_bundle_draws_the_same_showers_with_its_variant(exported: Path, tmp_path: Path) -> None:
    bundle = _with(exported, tmp_path / "bundle", ONNX.model_dump(mode="json"))
    generator, plain = load_bundle(bundle), load_bundle(bundle, variant=False)
    assert (generator.variant, plain.variant.engine) == (ONNX, "pytorch")
    ours, theirs = generator.sample(FEW, seed=3), plain.sample(FEW, seed=3)
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.sum(1).max()
    assert not np.array_equal(ours, theirs)  # another library computes them


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"provider": "TensorrtExecutionProvider"}, "this ONNX Runtime has no TensorrtExecutionProvider"),
        ({"device": "cuda"}, "is for cuda, not for cpu"),
        ({"engine": "pytorch", "precision": "int8"}, "PyTorch has no generator in int8"),
    ],
)
def test_what_this_machine_cannot_run_is_said_and_pytorch_draws(
    exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, str], reason: str
) -> None:
    bundle = _with(exported, tmp_path / "bundle", {**ONNX.model_dump(mode="json"), **changed})
    generator = load_bundle(bundle)
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert reason in line
    assert line.endswith("PyTorch draws the showers instead, in float32")
    assert np.array_equal(generator.sample(FEW, seed=3), load_bundle(exported).sample(FEW, seed=3))


def test_a_graph_that_no_library_can_load_is_said(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "generator.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineUnavailable, match=r"ONNX Runtime cannot load generator\.onnx"):
        load_bundle(exported).run_as(ONNX, tmp_path)


def _graph(path: Path, made: str, *, takes: str = "incident_energy") -> None:
    """Write a graph of one node that makes ``showers`` of the energies."""
    import onnx

    n_noise = 3
    float32, text = onnx.TensorProto.FLOAT, onnx.TensorProto.STRING
    energy = onnx.helper.make_tensor_value_info(takes, float32, ["n", 1])
    noise = onnx.helper.make_tensor_value_info("noise", float32, ["n", None])
    kind = text if made == "text" else float32
    showers = onnx.helper.make_tensor_value_info("showers", kind, None)
    sizes = {"columns": [1, 1], "unfit": [2, n_noise], "huge": [2**31, 2**20]}.get(made, [1, 1])
    shape = onnx.numpy_helper.from_array(np.array(sizes, np.int64), "shape")
    node = onnx.helper.make_node("Expand", [takes, "shape"], ["showers"])
    if made == "text":
        node = onnx.helper.make_node("Cast", [takes], ["showers"], to=text)
    graph = onnx.helper.make_graph([node], "graph", [energy, noise], [showers], [shape])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("made", ["columns", "text", "unfit", "huge"])
def test_a_graph_that_makes_something_else_is_said(exported: Path, tmp_path: Path, made: str) -> None:
    generator = load_bundle(exported)
    _graph(tmp_path / "generator.onnx", made)
    generator.run_as(ONNX, tmp_path)
    expected = {
        "columns": (GeneratorFailed, r"graph makes float32 of shape \(5, 1\) where float32 of \(5, 480\) is wanted"),
        "text": (GeneratorFailed, r"graph makes object of shape \(5, 1\)"),
    }
    error, message = expected.get(made, (EngineUnavailable, r"graph: ONNX Runtime cannot run generator\.onnx \("))
    with pytest.raises(error, match=message):
        generator.sample(FEW, seed=1)


def test_a_graph_of_another_generator_is_refused(exported: Path, tmp_path: Path) -> None:
    _graph(tmp_path / "generator.onnx", "columns", takes="theta")
    with pytest.raises(InputError, match=r"generator\.onnx: takes noise, theta and makes showers; it is of another"):
        load_bundle(exported).run_as(ONNX, tmp_path)


@pytest.mark.parametrize("changes", [{"steps": 10**12}, {"threads": 10**9}])
def test_a_variant_cannot_ask_for_endless_work(exported: Path, tmp_path: Path, changes: dict[str, int]) -> None:
    bundle = _with(exported, tmp_path / "bundle", {**ONNX.model_dump(mode="json"), **changes})
    with pytest.raises(InputError, match=rf"variant\.json: {next(iter(changes))}: Input should be less than"):
        load_bundle(bundle)


def test_a_variant_gets_no_more_threads_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert [ONNX.model_copy(update={"threads": n}).workers for n in (0, 3, 4096)] == [0, 3, 4]


def test_a_variant_whose_file_was_changed_is_refused(exported: Path, tmp_path: Path) -> None:
    bundle = _with(exported, tmp_path / "bundle", ONNX.model_dump(mode="json"))
    content = bytearray((bundle / "generator.onnx").read_bytes())
    content[-1] ^= 1
    (bundle / "generator.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"generator\.onnx: differs from what the bundle was saved with"):
        load_bundle(bundle)


@pytest.mark.parametrize("graph", ["../generator.onnx", "/etc/passwd", "other.onnx"])
def test_a_graph_outside_the_bundle_is_refused(exported: Path, tmp_path: Path, graph: str) -> None:
    bundle = _with(exported, tmp_path / "bundle", {**ONNX.model_dump(mode="json"), "graph": graph})
    with pytest.raises(InputError, match=r"variant\.json: graph: .* is no file of the bundle"):
        load_bundle(bundle)


def test_a_variant_with_an_unknown_key_or_engine_is_refused(exported: Path, tmp_path: Path) -> None:
    bundle = _with(exported, tmp_path / "a", {**ONNX.model_dump(mode="json"), "code": "1"})
    with pytest.raises(InputError, match=r"variant\.json: unknown key 'code'|variant\.json: .*code"):
        load_bundle(bundle)
    bundle = _with(exported, tmp_path / "b", {**ONNX.model_dump(mode="json"), "engine": "abacus"})
    with pytest.raises(InputError, match=r"unknown engine 'abacus'"):
        load_bundle(bundle)
    assert "variant.json" in read_bundle_config(bundle)["files"]


def test_the_engines_are_a_registry() -> None:
    assert set(ENGINES) == {"pytorch", "onnxruntime", "cpp"}
