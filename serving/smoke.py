"""Serve a bundle, ask it for showers, and compare them with those sampled in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.domain import spread_over
from caloforge.files import read_json
from caloforge.models.agreement import TOLERANCE, relative_difference, that_must_agree
from caloforge.models.bundle import load_bundle
from caloforge.models.export import ONNX_FILE, run_onnx
from caloforge.serving.client import query
from caloforge.serving.device import best_device
from caloforge.serving.errors import ServingError
from caloforge.serving.local import running_server
from caloforge.showers import Conditions
from caloforge.steps import step

logger = logging.getLogger(__name__)

_SHOWERS = 20
_LATENCY_QUERIES = 5


@dataclass(frozen=True)
class Reference:
    """What a server of a bundle must answer.

    Attributes:
        conditions: of the showers.
        showers: (N, V) MeV, as sampled in this process.
        threshold: MeV below which voxels are 0.
        seed: of the showers.
        flipped_share: share of showers that another machine's rounding may turn into others of their kind.
    """

    conditions: Conditions
    showers: NDArray[np.float32]
    threshold: float
    seed: int
    flipped_share: float = 0.0


class WrongShowers(ServingError):
    """A server makes other showers than its bundle."""


def reference_showers(bundle: Path, *, seed: int) -> Reference:
    """Sample the showers that every server of the bundle must make."""
    generator = load_bundle(bundle, device=best_device())
    conditions = spread_over(generator.domains, _SHOWERS)
    showers = generator.sample(conditions, seed=seed)
    return Reference(conditions, showers, generator.threshold, seed, generator.network.flipped_share)


def check_server(url: str, reference: Reference, *, headers: Mapping[str, str] | None = None) -> dict[str, float]:
    """Ask a server for the reference showers and compare.

    Args:
        url: where it is.
        reference: what it must answer.
        headers: sent along.

    Returns:
        ``latency_ms`` of a query for one shower (median) and ``max_relative_difference`` (of a voxel, as a
        share of its shower's energy).

    Raises:
        InputError: it cannot be reached or refuses.
        WrongShowers: a shower differs by more than 1e-4.
        ServingError: it failed.
    """
    served = query(url, reference.conditions, seed=reference.seed, headers=headers)
    difference = _compare(
        "the server's", served, reference.showers, reference.threshold, flipped_share=reference.flipped_share
    )
    one = reference.conditions.take(slice(0, 1))
    latency = _latency_ms(url, one, seed=reference.seed, headers=headers)
    return {"latency_ms": latency, "max_relative_difference": difference}


def smoke_test(bundle: Path, *, seed: int = 0) -> dict[str, float]:
    """Check that the served bundle, and its ONNX file if it has one, make the bundle's showers.

    Args:
        bundle: folder of the generator.
        seed: seed of the showers that are compared.

    Returns:
        ``start_seconds`` of the server, what :func:`check_server` returns, and
        ``onnx_max_relative_difference`` with an ONNX file.

    Raises:
        ServingError: the server does not start, or showers differ by more than 1e-4.
    """
    with step("serve"):
        reference = reference_showers(bundle, seed=seed)
        begin = time.perf_counter()
        with running_server(bundle) as url:
            figures = {"start_seconds": time.perf_counter() - begin, **check_server(url, reference)}
        if (bundle / ONNX_FILE).is_file():
            figures["onnx_max_relative_difference"] = check_onnx(bundle, reference.conditions, seed=seed)
        logger.info("served %d showers as in-process sampling makes them; one takes %.1f ms",
                    len(reference.conditions), figures["latency_ms"])  # fmt: skip
        return figures


def check_onnx(bundle: Path, conditions: Conditions, *, seed: int) -> float:
    """Return the largest difference between the showers of a bundle's ONNX file and of PyTorch.

    Raises:
        ServingError: it is more than 1e-4 of a shower's energy.
    """
    generator = load_bundle(bundle, variant=False)  # on the CPU, where onnxruntime computes too
    steps = read_json(bundle / "onnx.json")["steps"]  # fixed in the graph
    expected = generator.sample(conditions, seed=seed, steps=steps)
    drawn = run_onnx(bundle, conditions, seed=seed)
    return _compare(
        "the ONNX file's", drawn, expected, generator.threshold, flipped_share=generator.network.flipped_share
    )


def _compare(
    whose: str,
    showers: NDArray[np.float32],
    expected: NDArray[np.float32],
    threshold: float,
    *,
    flipped_share: float,
) -> float:
    if showers.shape != expected.shape:
        raise WrongShowers(f"{whose} showers have shape {showers.shape}, in-process ones {expected.shape}")
    differences = relative_difference(showers, expected, threshold)
    largest = float(that_must_agree(differences, flipped_share).max())
    if not largest <= TOLERANCE:
        worst = int(differences.argmax())
        msg = (
            f"{whose} showers are not those of in-process sampling: {int((differences > TOLERANCE).sum())} of "
            f"{len(differences)} differ by more than {TOLERANCE:g} of their energy, shower {worst} by "
            f"{differences[worst]:.2g}"
        )
        raise WrongShowers(msg)
    return largest


def _latency_ms(url: str, condition: Conditions, *, seed: int, headers: Mapping[str, str] | None) -> float:
    seconds = []
    for _ in range(_LATENCY_QUERIES):
        start = time.perf_counter()
        query(url, condition, seed=seed, headers=headers)
        seconds.append(time.perf_counter() - start)
    return 1e3 * float(np.median(seconds))
