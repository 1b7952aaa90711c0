"""A variant of a generator: the same showers, computed by another library, precision or number of threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from caloforge.config import Config, OneLine
from caloforge.models.noise import Noise

if TYPE_CHECKING:
    from caloforge.models.family import Family

VARIANT_FILE = "variant.json"
"""File of a bundle that says which variant draws its showers; without it PyTorch does, in float32."""

VARIANT_GRAPH = "variant.onnx"
"""File of a bundle with the variant's own graph, where that is another than ``generator.onnx``."""

OPTIMISATION = ("optimisation.json", "optimisation.md", "optimisation.png")
"""Files of a bundle that say how its variant was chosen."""

Draw = Callable[[NDArray[np.float32], Noise], NDArray[np.float32]]
"""From conditions (B, K) and the noise of B showers to voxel energies (B, V) in MeV."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]


class EngineUnavailable(RuntimeError):
    """This machine cannot run a variant."""


class Variant(Config):
    """How a generator is run.

    Attributes:
        name: what tables call it.
        engine: of :data:`caloforge.models.registries.ENGINES`.
        device: ``cpu`` or ``cuda``.
        precision: of the network's arithmetic.
        threads: that one network pass uses; 0: as many as the library likes.
        steps: of the sampler; None for the family's own, and for families without.
        graph: file of the ONNX graph in the bundle; empty where there is none.
        optimisation: what ONNX Runtime does to the graph when it loads it.
        provider: execution provider of ONNX Runtime.
        compiled: whether PyTorch compiles the network at its first pass.
    """

    name: OneLine
    engine: str = "pytorch"
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Precision = "fp32"
    threads: int = Field(default=0, ge=0, le=4096)
    steps: int | None = Field(default=None, ge=1, le=100_000)
    graph: str = ""
    optimisation: Literal["disabled", "basic", "extended", "all"] = "all"
    provider: str = "CPUExecutionProvider"
    compiled: bool = False

    @property
    def workers(self) -> int:
        """Threads that are started: no more than this machine has cores, whatever another one or a stranger chose."""
        return min(self.threads, os.cpu_count() or 1)


PLAIN = Variant(name="PyTorch")
"""What a bundle without a choice runs as."""

OpenEngine = Callable[[Variant, "Family", tuple[str, ...], Path], Draw]
"""Starts a variant, given the network on its device, the names of its conditions and the bundle's folder; raises
:class:`EngineUnavailable`."""
