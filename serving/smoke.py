"""Serve a bundle, ask it for showers, and compare them with those sampled in this process."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.models.bundle import Generator, load_bundle
from caloforge.models.export import run_onnx
from caloforge.serving.client import query
from caloforge.serving.errors import ServingError
from caloforge.serving.local import running_server
from caloforge.showers import Conditions
from caloforge.steps import step

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference of a voxel, as a share of its shower's energy."""

BORDERLINE = 1e-3
"""How close to the threshold, relatively, a voxel may be zeroed on one side and kept on the other."""

_ENERGIES = 5
_PER_ENERGY = 4
_LATENCY_QUERIES = 5


def smoke_test(bundle: Path, *, seed: int = 0) -> dict[str, float]:
    """Check that the served bundle, and its ONNX file if it has one, make the bundle's showers.

    Args:
        bundle: folder of the generator.
        seed: seed of the showers that are compared.

    Returns:
        ``start_seconds`` of the server, ``latency_ms`` of a query for one shower (median),
        ``max_relative_difference`` between the served and the in-process showers (of a voxel, as
        a share of its shower's energy), and ``onnx_max_relative_difference`` with an ONNX file.

    Raises:
        ServingError: the server does not start, or showers differ by more than 1e-4.
    """
    with step("serve"):
        generator = load_bundle(bundle)
        conditions = spread_conditions(generator, _ENERGIES, _PER_ENERGY)
        expected = generator.sample(conditions, seed=seed)
        figures = {}
        begin = time.perf_counter()
        with running_server(bundle) as url:
            figures["start_seconds"] = time.perf_counter() - begin
            served = query(url, conditions, seed=seed)
            figures["latency_ms"] = _latency_ms(url, conditions.take(slice(0, 1)), seed=seed)
        figures["max_relative_difference"] = _compare("the server's", served, expected, generator.threshold)
        if (onnx := bundle / "generator.onnx").is_file():
            replayed = run_onnx(onnx, conditions, seed=seed)
            figures["onnx_max_relative_difference"] = _compare(
                "the ONNX file's", replayed, expected, generator.threshold
            )
        logger.info("served %d showers as in-process sampling makes them; one takes %.1f ms",
                    len(conditions), figures["latency_ms"])  # fmt: skip
        return figures


def spread_conditions(generator: Generator, n_energies: int, per_energy: int) -> Conditions:
    """Return incident energies spread evenly in log over the trained range; other conditions are 0."""
    low, high = generator.energy_range
    energies = np.geomspace(low, high, n_energies).clip(low, high).repeat(per_energy)
    others = {name: np.zeros(len(energies)) for name in generator.condition_names[1:]}
    return Conditions(energies, **others)


def relative_difference(
    showers: NDArray[np.float32], expected: NDArray[np.float32], threshold: float
) -> NDArray[np.float64]:
    """Return each shower's largest voxel difference as a share of its energy, (N,).

    Two ways to compute a voxel differ in the last digits. At the threshold that can decide
    between 0 and the threshold; such a voxel does not count.

    Args:
        showers: (N, V) MeV.
        expected: (N, V) MeV.
        threshold: MeV below which voxels are 0.
    """
    difference = np.abs(showers.astype(np.float64) - expected)
    one_is_zero = (showers == 0) != (expected == 0)
    difference[one_is_zero & (difference <= threshold * (1 + BORDERLINE))] = 0
    total = expected.sum(axis=1, dtype=np.float64)
    return difference.max(axis=1) / np.maximum(total, np.finfo(np.float32).tiny)


def _compare(whose: str, showers: NDArray[np.float32], expected: NDArray[np.float32], threshold: float) -> float:
    if showers.shape != expected.shape:
        raise ServingError(f"{whose} showers have shape {showers.shape}, in-process ones {expected.shape}")
    differences = relative_difference(showers, expected, threshold)
    worst = int(differences.argmax())
    if not differences[worst] <= TOLERANCE:
        msg = (
            f"{whose} showers are not those of in-process sampling: {int((differences > TOLERANCE).sum())} of "
            f"{len(differences)} differ by more than {TOLERANCE:g} of their energy, shower {worst} by "
            f"{differences[worst]:.2g}"
        )
        raise ServingError(msg)
    return float(differences[worst])


def _latency_ms(url: str, condition: Conditions, *, seed: int) -> float:
    seconds = []
    for _ in range(_LATENCY_QUERIES):
        start = time.perf_counter()
        query(url, condition, seed=seed)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))
