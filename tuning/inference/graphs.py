"""ONNX graphs of a generator: as it was exported, optimised offline, or with weights of eight bits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.files import read_json
from caloforge.models.bundle import Generator, read_bundle_config
from caloforge.models.engines.onnx import open_session
from caloforge.models.engines.variant import EngineUnavailable, Variant
from caloforge.models.export import ONNX_FILE, export

Feeds = Mapping[str, NDArray[np.float32]]
"""Inputs of a graph by name: the conditions, and the noise."""

_MATRICES = ["MatMul", "Gemm"]
"""What is worth eight bits; the arithmetic of MeV around them is not."""


def with_graph(bundle: Path, generator: Generator, scratch: Path) -> Path:
    """Return a bundle with a graph of the generator's own number of steps: itself, or an exported copy in a folder."""
    files = read_bundle_config(bundle)["files"]
    if ONNX_FILE in files and read_json(bundle / "onnx.json")["steps"] == generator.default_steps:
        return bundle
    export(bundle, scratch / "exported")
    return scratch / "exported"


def optimised_offline(source: Path, target: Path) -> None:
    """Write the graph as ONNX Runtime has optimised it; what depends on the processor is left for loading.

    Raises:
        EngineUnavailable: ONNX Runtime cannot do it.
    """
    open_session(Variant(name=target.name, engine="onnxruntime", optimisation="extended"), source, optimised=target)


def quantised_dynamic(source: Path, target: Path) -> None:
    """Write the graph with weights of eight bits; activations are scaled as they come.

    Raises:
        EngineUnavailable: ONNX Runtime cannot do it, or finds nothing to do.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _told():
        quantize_dynamic(
            source, target, op_types_to_quantize=_MATRICES, weight_type=QuantType.QInt8,
            extra_options={"EnableSubgraph": True},
        )  # fmt: skip
    _refuse_unchanged(source, target)


def quantised_static(source: Path, target: Path, calibration: Sequence[Feeds]) -> None:
    """Write the graph with weights and activations of eight bits (QDQ).

    Args:
        source: the graph.
        target: the file to write.
        calibration: inputs by which the activations' ranges are found.

    Raises:
        EngineUnavailable: ONNX Runtime cannot do it, or finds nothing to do.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # of a library without types
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> Any:
            return next(self._left, None)

    with _told():
        quantize_static(
            source, target, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=_MATRICES,
            activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    _refuse_unchanged(source, target)


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever the quantisation raises into :class:`EngineUnavailable`, and keep its warnings to itself."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    except Exception as error:  # noqa: BLE001  its errors have no class in common
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineUnavailable(f"the graph cannot be quantised ({reason})") from None
    finally:
        root.setLevel(level)


def _refuse_unchanged(source: Path, target: Path) -> None:
    import onnx

    def operators(path: Path) -> list[str]:
        found: list[str] = []
        graphs = [onnx.load(path).graph]
        while graphs:
            graph = graphs.pop()
            for node in graph.node:
                found.append(node.op_type)
                graphs += [one.g for one in node.attribute if one.type == onnx.AttributeProto.GRAPH]
        return sorted(found)

    if operators(source) == operators(target):
        raise EngineUnavailable("the graph has no matrix product with constant weights that could be quantised")
