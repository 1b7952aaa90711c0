"""What a machine can run a generator as."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.models.bundle import Generator, condition_columns
from caloforge.models.engines.variant import Variant
from caloforge.models.export import ONNX_FILE, write_onnx
from caloforge.models.noise import NoiseStream
from caloforge.showers import Conditions
from caloforge.tuning.inference.graphs import Feeds, optimised_offline, quantised_dynamic, quantised_static

_CALIBRATION = 64
"""Showers by which ranges of activations are found."""

_PROVIDERS = {
    "OpenVINOExecutionProvider": "OpenVINO",
    "DnnlExecutionProvider": "oneDNN",
    "CUDAExecutionProvider": "CUDA",
    "TensorrtExecutionProvider": "TensorRT",
}
"""Execution providers worth a try beside the plain one, where they are installed."""


@dataclass(frozen=True)
class Candidate:
    """A variant, and how its graph is made.

    Attributes:
        variant: how it is run.
        write: writes the graph into a folder; None where that of the exported bundle serves.
    """

    variant: Variant
    write: Callable[[Path], None] | None = None


def plain(generator: Generator) -> Variant:
    """Return what all are measured against: PyTorch in float32 where the generator is, with all threads."""
    return Variant(name="PyTorch fp32", device=_device(generator), steps=generator.default_steps)


def candidates(generator: Generator, exported: Path, calibration: Conditions, *, compiled: bool) -> Iterator[Candidate]:
    """Yield what is worth measuring on this machine; the first is :func:`plain`.

    Args:
        generator: the generator, as PyTorch runs it.
        exported: its bundle with an ONNX graph of the generator's own number of steps.
        calibration: conditions by which ranges of activations are found.
        compiled: whether to try PyTorch's compiler too, which takes a minute or more.
    """
    first = plain(generator)
    yield Candidate(first)
    several = (os.cpu_count() or 1) > 1
    if several:
        yield Candidate(first.model_copy(update={"name": "PyTorch fp32, 1 thread", "threads": 1}))
    if reduced := _reduced(generator):
        yield Candidate(first.model_copy(update={"name": f"PyTorch {reduced}", "precision": reduced}))
    if compiled:
        yield Candidate(first.model_copy(update={"name": "PyTorch compiled", "compiled": True}))
    yield from _of_onnx_runtime(generator, exported, calibration, several=several)
    if first.device == "cpu":
        cpp = Variant(name="C++", engine="cpp", steps=generator.default_steps)
        yield Candidate(cpp)
        if several:
            yield Candidate(cpp.model_copy(update={"name": "C++, 1 thread", "threads": 1}))
    yield from _fewer_steps(generator, first)


def _of_onnx_runtime(
    generator: Generator, exported: Path, calibration: Conditions, *, several: bool
) -> Iterator[Candidate]:
    graph = exported / ONNX_FILE
    onnx = Variant(name="ONNX Runtime", engine="onnxruntime", steps=generator.default_steps, graph=ONNX_FILE)
    for level, title in (("disabled", "not optimised"), ("basic", "basic"), ("extended", "extended"), ("all", "all")):
        yield Candidate(onnx.model_copy(update={"name": f"ONNX Runtime, {title}", "optimisation": level}))
    if several:
        yield Candidate(onnx.model_copy(update={"name": "ONNX Runtime, all, 1 thread", "threads": 1}))
    offline = {"name": "ONNX Runtime, offline", "graph": "offline.onnx", "optimisation": "all"}
    yield Candidate(onnx.model_copy(update=offline), lambda folder: optimised_offline(graph, folder / "offline.onnx"))
    dynamic = {"name": "ONNX Runtime, int8 dynamic", "graph": "dynamic.onnx", "precision": "int8"}
    yield Candidate(onnx.model_copy(update=dynamic), lambda folder: quantised_dynamic(graph, folder / "dynamic.onnx"))
    static = {"name": "ONNX Runtime, int8 static", "graph": "static.onnx", "precision": "int8"}
    feeds = _feeds(generator, calibration)
    yield Candidate(
        onnx.model_copy(update=static), lambda folder: quantised_static(graph, folder / "static.onnx", feeds)
    )
    for provider in _installed_providers():
        device = "cuda" if provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider") else "cpu"
        yield Candidate(
            onnx.model_copy(
                update={"name": f"ONNX Runtime, {_PROVIDERS[provider]}", "provider": provider, "device": device}
            )
        )


def _fewer_steps(generator: Generator, first: Variant) -> Iterator[Candidate]:
    """Yield a half and a quarter of the sampler's steps, for a family that has steps."""
    usual = generator.default_steps or 1
    for steps in sorted({usual // 2, usual // 4} - {0, usual}, reverse=True):
        yield Candidate(first.model_copy(update={"name": f"PyTorch fp32, {steps} steps", "steps": steps}))
        name = f"steps{steps}.onnx"

        def write(folder: Path, steps: int = steps, name: str = name) -> None:
            write_onnx(generator, steps, folder / name)

        yield Candidate(
            Variant(name=f"ONNX Runtime, {steps} steps", engine="onnxruntime", steps=steps, graph=name), write
        )


def _device(generator: Generator) -> Literal["cpu", "cuda"]:
    return "cuda" if generator.device.type == "cuda" else "cpu"


def _reduced(generator: Generator) -> str:
    """Return the precision below float32 that the device computes in, if it has one."""
    if generator.device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    capability = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo")
    has = flags.is_file() and "avx512_bf16" in flags.read_text(encoding="utf-8", errors="replace")
    return "bf16" if capability.startswith("AVX512") and has else ""


def _installed_providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return [name for name in onnxruntime.get_available_providers() if name in _PROVIDERS]


def _feeds(generator: Generator, conditions: Conditions) -> list[Feeds]:
    few = conditions.take(np.linspace(0, len(conditions) - 1, min(len(conditions), _CALIBRATION), dtype=np.int64))
    columns = condition_columns(few, generator.condition_names)
    noise = NoiseStream(0, generator.network.noise_for(generator.default_steps)).rows(len(few))
    named: dict[str, NDArray[np.float32]] = {
        name: columns[:, i : i + 1] for i, name in enumerate(generator.condition_names)
    }
    return [{**named, "noise": noise}]
