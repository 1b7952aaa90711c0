"""ONNX Runtime: a bundle's graph, on any of its execution providers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.models.engines.variant import Draw, EngineUnavailable, Variant

if TYPE_CHECKING:
    from caloforge.models.family import Family
    from caloforge.models.noise import Noise

_LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
QUIET = 4
"""Severity from which ONNX Runtime logs: its errors are raised too, and it warns of graphs that are as they should be."""


def open_engine(variant: Variant, network: Family, conditions: tuple[str, ...], folder: Path) -> Draw:
    """Return what draws showers with a bundle's graph; see :data:`caloforge.models.engines.variant.OpenEngine`.

    Raises:
        EngineUnavailable: ONNX Runtime is not there, has not the provider, or cannot load the graph; later, that it failed.
        InputError: the graph is not one of this generator.
    """
    session = open_session(variant, folder / variant.graph)
    wanted = {*conditions, "noise"}, {"showers"}
    found = tuple({one.name for one in ends} for ends in (session.get_inputs(), session.get_outputs()))
    if found != wanted:
        said = " and makes ".join(", ".join(sorted(names)) for names in found)
        raise InputError(f"{folder / variant.graph}: takes {said}; it is of another generator, export it again")

    def draw(columns: NDArray[np.float32], noise: Noise) -> NDArray[np.float32]:
        feeds = {name: columns[:, i : i + 1] for i, name in enumerate(conditions)}
        try:
            showers: NDArray[np.float32] = session.run(["showers"], {**feeds, "noise": noise.normal()})[0]
        except Exception as error:  # noqa: BLE001  its errors have no class in common
            reason = str(error).splitlines()[0]
            raise EngineUnavailable(f"{variant.name}: ONNX Runtime cannot run {variant.graph} ({reason})") from None
        return showers

    return draw


def open_session(variant: Variant, path: Path, *, optimised: Path | None = None) -> Any:
    """Load a graph.

    Args:
        variant: how it is run.
        path: ONNX file.
        optimised: file to write the optimised graph to.

    Raises:
        EngineUnavailable: see :func:`open_engine`.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable(f"{variant.name}: ONNX Runtime is not installed ({error})") from None
    if variant.provider not in (there := onnxruntime.get_available_providers()):
        raise EngineUnavailable(
            f"{variant.name}: this ONNX Runtime has no {variant.provider}; it has {', '.join(there)}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    options.intra_op_num_threads = variant.workers
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[variant.optimisation])
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[variant.provider])
    except Exception as error:  # noqa: BLE001  its errors have no class in common
        reason = str(error).splitlines()[0]
        raise EngineUnavailable(f"{variant.name}: ONNX Runtime cannot load {path.name} ({reason})") from None
