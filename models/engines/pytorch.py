"""PyTorch: the network as it was trained, in float32 or less, as it is or compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.engines.variant import Draw, EngineUnavailable, Variant
from caloforge.models.family import Family
from caloforge.models.noise import Noise

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def open_engine(variant: Variant, network: Family, conditions: tuple[str, ...], folder: Path) -> Draw:
    """Return what draws showers with the network where it is; see :data:`caloforge.models.engines.variant.OpenEngine`.

    Raises:
        EngineUnavailable: the precision is none of PyTorch's.
    """
    if variant.precision not in ("fp32", *_TYPES):
        raise EngineUnavailable(f"{variant.name}: PyTorch has no generator in {variant.precision}")
    device = next(network.parameters()).device
    reduced = _TYPES.get(variant.precision)
    run: Any = torch.compile(network) if variant.compiled else network

    def draw(columns: NDArray[np.float32], noise: Noise) -> NDArray[np.float32]:
        inputs = [torch.from_numpy(values).to(device) for values in (columns, noise.normal())]
        with (
            torch.inference_mode(),
            _threads(variant.workers),
            torch.autocast(device.type, dtype=reduced, enabled=reduced is not None),
        ):
            showers: NDArray[np.float32] = run(*inputs, variant.steps).float().cpu().numpy()
        return showers

    return draw


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    """Use so many threads for a while; 0 changes nothing."""
    before = torch.get_num_threads()
    if wanted in (0, before):
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
