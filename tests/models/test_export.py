"""Which operator set an exported graph is written in, and the graph with the random numbers inside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from torch.onnx.errors import UnsupportedOperatorError

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.bundle import load_bundle, read_bundle_config
from caloforge.models.export import ONNX_FILE, SEEDED_FILE, export, run_onnx, run_seeded
from caloforge.models.families.vae import VAE
from caloforge.models.family import OPSETS
from caloforge.models.noise import NoiseStream
from caloforge.models.onnx_random import with_random_numbers
from caloforge.showers import Conditions

pytestmark = pytest.mark.slow

ENERGIES = Conditions(np.geomspace(2000.0, 90000.0, 12))


def sets(exported: Path) -> tuple[int, int, int]:
    """Return the operator set of the contract, of the graph, and the version of the file."""
    graph = onnx.load(str(exported / ONNX_FILE))
    (used,) = graph.opset_import
    return read_json(exported / "onnx.json")["opset"], used.version, graph.ir_version


def test_it_is_the_oldest_or_the_one_that_is_asked_for(tmp_path: Path, family_bundles: dict[str, Path]) -> None:
    words = ["export", "--bundle", str(family_bundles["tree"]), "-o"]
    for name, options, expected in (("oldest", [], 17), ("other", ["--opset", "19"], 19)):
        result = CliRunner().invoke(main, [*words, str(tmp_path / name), *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert sets(tmp_path / name) == (expected, expected, OPSETS[expected])  # old runtimes refuse newer files


def test_a_graph_that_needs_a_newer_one_gets_it(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needs_19(_: VAE, path: Path, *given: Any, opset: int, **options: Any) -> None:
        if opset < 19:
            raise UnsupportedOperatorError("aten::gelu", opset, 19)
        path.write_bytes(b"a graph")

    monkeypatch.setattr(VAE, "write_onnx", needs_19)
    monkeypatch.setattr("caloforge.models.export._difference", lambda *_, **__: 0.0)
    monkeypatch.setattr("caloforge.models.export._save", lambda *_: None)
    monkeypatch.setattr("onnx.load", lambda *_: None)
    export(tiny_bundle, tmp_path / "out")
    assert read_json(tmp_path / "out" / "onnx.json")["opset"] == 19
    with pytest.raises(InputError, match=r"operator set 17 cannot hold the graph of vae: .*gelu"):
        export(tiny_bundle, tmp_path / "old", opset=17)
    with pytest.raises(InputError, match="operator set 16: choose one of 17, 18, 19, 20"):
        export(tiny_bundle, tmp_path / "old", opset=16)
    assert not (tmp_path / "old").exists()


@pytest.fixture(scope="module")
def seeded(family_bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE with both graphs."""
    folder = tmp_path_factory.mktemp("seeded") / "vae"
    words = ["export", "--bundle", str(family_bundles["vae"]), "-o", str(folder), "--seeded"]
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
    return folder


@pytest.mark.parametrize(("n", "first"), [(21, 0), (8, 3), (5000, 2**33 + 7), (5, 2**63 - 4)])
@pytest.mark.parametrize("seed", [0, 2**62 + 5, 2**63 - 1])
def test_the_numbers_inside_a_graph_are_those_of_python(n: int, first: int, seed: int) -> None:
    """To the last digit of float32 at most; with 5,000 of them, three rows come from loops of one or two rows."""
    import onnxruntime

    kinds = {"incident_energy": 1, "noise": n}
    inputs = [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, ["N", v]) for k, v in kinds.items()]
    output = onnx.helper.make_tensor_value_info("showers", onnx.TensorProto.FLOAT, ["N", n])
    nodes = [onnx.helper.make_node("Identity", ["noise"], ["showers"])]
    graph = onnx.helper.make_graph(nodes, "identity", inputs, [output])
    opset = onnx.helper.make_opsetid("", 18)
    model = with_random_numbers(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=OPSETS[18]))
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {"seed": np.array(seed), "first": np.array(first)}
    [found] = session.run(None, {**given, "incident_energy": np.ones((3, 1), np.float32)})
    stream = NoiseStream(seed, n)
    stream._next = first
    np.testing.assert_allclose(found, stream.rows(3), rtol=1.3e-7, atol=1e-12)


def test_a_seed_gives_the_showers_of_pytorch(seeded: Path) -> None:
    """Those of the graph that is given the noise, and so those of PyTorch but for rounding."""
    assert np.array_equal(
        run_seeded(seeded, ENERGIES, seed=5, threads=1), run_onnx(seeded, ENERGIES, seed=5, threads=1)
    )
    ours = load_bundle(seeded).sample(ENERGIES, seed=5)
    difference = np.abs(run_seeded(seeded, ENERGIES, seed=5, threads=1) - ours).max(1) / ours.sum(1)
    assert difference.max() < 1e-5
    assert not np.allclose(run_seeded(seeded, ENERGIES, seed=6, threads=1), ours)


def test_two_batches_are_one(seeded: Path) -> None:
    whole = run_seeded(seeded, ENERGIES, seed=5, threads=1)
    parts = [run_seeded(seeded, ENERGIES.take(slice(a, b)), seed=5, first=a, threads=1) for a, b in ((0, 5), (5, 12))]
    difference = np.abs(np.concatenate(parts) - whole).max(1) / whole.sum(1)
    assert difference.max() < 1e-5  # products of other sizes round differently


def test_the_graphs_say_what_goes_in_and_out(seeded: Path) -> None:
    contract = read_json(seeded / "onnx.json")
    inside = contract.pop("seeded")
    for name, told in ((ONNX_FILE, contract), (SEEDED_FILE, inside)):
        model = onnx.load(str(seeded / name))
        [entry] = [one.value for one in model.metadata_props if one.key == "caloforge"]
        assert json.loads(entry) == told
        shapes = {
            one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in model.graph.input
        }
        assert shapes == told["inputs"]
        assert told["opset"] == model.opset_import[0].version
        assert all(node.domain == "" for node in model.graph.node)
    assert inside["random"]["seed"] == {"low": 0, "high": 2**63 - 1}
    assert (list(inside["inputs"]), inside["units"]["incident_energy"]) == (["incident_energy", "seed", "first"], "MeV")
    assert (seeded / SEEDED_FILE).stat().st_size - (seeded / ONNX_FILE).stat().st_size < 200_000
    assert SEEDED_FILE in read_bundle_config(seeded)["files"]


def test_an_export_of_it_without_leaves_none(seeded: Path, tmp_path: Path) -> None:
    export(seeded, tmp_path / "out")
    assert not (tmp_path / "out" / SEEDED_FILE).exists()
    with pytest.raises(InputError, match=r"has no seeded\.onnx; run export --seeded first"):
        run_seeded(tmp_path / "out", ENERGIES, seed=1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seed": -1}, "seed: expected an integer from 0 to 9223372036854775807, got -1"),
        ({"seed": 2**63}, "seed: expected an integer from 0 to 9223372036854775807, got 9223372036854775808"),
        ({"seed": 1, "first": -1}, "first: expected an integer from 0"),
        ({"seed": 1, "first": 2**63 - 3}, "number of the last shower: expected an integer from 0"),
    ],
)
def test_a_seed_that_does_not_fit_is_refused(seeded: Path, options: dict[str, int], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        run_seeded(seeded, ENERGIES, **options)
    if "first" not in options:
        with pytest.raises(InputError, match=reason):
            run_onnx(seeded, ENERGIES, **options)
        generator = load_bundle(seeded)
        with pytest.raises(InputError, match=reason):
            generator.sample(ENERGIES, **options)
        with pytest.raises(InputError, match=reason):
            generator.sample_together([(ENERGIES, options["seed"])], steps=None)


def test_an_operator_set_without_exclusive_or_is_refused(family_bundles: dict[str, Path], tmp_path: Path) -> None:
    words = ["export", "--bundle", str(family_bundles["vae"]), "-o", str(tmp_path / "out"), "--seeded", "--opset", "17"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code != 0
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"operator set 17 cannot hold the random numbers of seeded\.onnx"):
        export(family_bundles["vae"], tmp_path / "out", seeded=True, opset=17)
