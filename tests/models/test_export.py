"""Which operator set an exported graph is written in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from torch.onnx.errors import UnsupportedOperatorError

from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.models.export import ONNX_FILE, export
from caloforge.models.families.vae import VAE
from caloforge.models.family import OPSETS


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
    monkeypatch.setattr("caloforge.models.export._difference", lambda *_: 0.0)
    export(tiny_bundle, tmp_path / "out")
    assert read_json(tmp_path / "out" / "onnx.json")["opset"] == 19
    with pytest.raises(InputError, match=r"operator set 17 cannot hold the graph of vae: .*gelu"):
        export(tiny_bundle, tmp_path / "old", opset=17)
    with pytest.raises(InputError, match="operator set 16: choose one of 17, 18, 19, 20"):
        export(tiny_bundle, tmp_path / "old", opset=16)
    assert not (tmp_path / "old").exists()
