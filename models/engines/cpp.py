"""The sampler in C++ (serving/cpp), called from here: the same random numbers, and the same showers but for rounding."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.domain import spread_over
from caloforge.errors import InputError
from caloforge.models.agreement import TOLERANCE, relative_difference
from caloforge.models.engines.cpp_library import library
from caloforge.models.engines.variant import Draw, EngineUnavailable, Variant
from caloforge.models.families.tree import Tree
from caloforge.models.family import Family
from caloforge.models.noise import Noise, NoiseStream

_COLUMNS = ("incident_energy", "theta", "phi", "particle")
"""What the library is told of a particle, in this order."""

_TRIED = 8
"""Showers by which it is tried when a bundle is loaded."""


def open_engine(variant: Variant, network: Family, conditions: tuple[str, ...], folder: Path) -> Draw:
    """Return what draws showers in C++; see :data:`caloforge.models.engines.variant.OpenEngine`.

    ``folder`` holds the bundle itself.

    Raises:
        EngineUnavailable: the family or mesh is none of the sampler's, there is no compiler, or what was built draws
            other showers than PyTorch.
    """
    if not isinstance(network, Tree):
        raise EngineUnavailable(f"{variant.name}: the C++ sampler has no {network.config.family}; it has: tree")
    try:
        sampler = _Sampler(folder, variant.threads)
    except EngineUnavailable as error:
        raise EngineUnavailable(f"{variant.name}: {error}") from None
    places = [_COLUMNS.index(name) for name in conditions]

    def draw(columns: NDArray[np.float32], noise: Noise) -> NDArray[np.float32]:
        particles = np.zeros((len(columns), len(_COLUMNS)))
        particles[:, places] = columns
        return sampler.draw(particles, noise)

    if (differing := _differing(draw, network, conditions)) > _TRIED // 2:
        raise EngineUnavailable(
            f"{variant.name}: {differing} of {_TRIED} showers differ from PyTorch's; delete the cached library, or tell us"
        )
    return draw


class _Sampler:
    """A generator in the library. Threads may draw with it at the same time."""

    def __init__(self, bundle: Path, threads: int) -> None:
        self._library = library()
        self._threads = threads or os.cpu_count() or 1
        self._library.caloforge_load.restype = ctypes.c_void_p
        self._library.caloforge_voxels.restype = ctypes.c_size_t
        message = ctypes.create_string_buffer(1000)
        handle = self._library.caloforge_load(os.fsencode(bundle), message, ctypes.c_size_t(len(message)))
        if not handle:
            raise EngineUnavailable(_said(message))
        self._handle = ctypes.c_void_p(handle)
        self._n_voxels = int(self._library.caloforge_voxels(self._handle))

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.caloforge_free(self._handle)

    def draw(self, particles: NDArray[np.float64], noise: Noise) -> NDArray[np.float32]:
        """Map particles (B, 4) to showers (B, V) in MeV; NaN where one is not finite."""
        given = [np.ascontiguousarray(values) for values in (particles, noise.seeds, noise.showers)]
        voxels = np.empty((len(particles), self._n_voxels), np.float32)
        message = ctypes.create_string_buffer(1000)
        inputs = [ctypes.c_void_p(values.ctypes.data) for values in given]
        failed = self._library.caloforge_draw(
            self._handle, *inputs, ctypes.c_size_t(len(particles)), ctypes.c_uint(self._threads),
            ctypes.c_void_p(voxels.ctypes.data), message, ctypes.c_size_t(len(message)),
        )  # fmt: skip
        if failed:
            raise InputError(_said(message))
        return voxels


def _said(message: ctypes.Array[ctypes.c_char]) -> str:
    return message.value.decode(errors="replace")


def _differing(draw: Draw, network: Tree, names: tuple[str, ...]) -> int:
    """Return how many of a few showers are others than PyTorch's."""
    conditions = spread_over(network.data.domains, _TRIED)
    columns = np.stack([getattr(conditions, name) for name in names], 1).astype(np.float32)
    noise = NoiseStream(0, network.noise_features).take(_TRIED)
    with torch.inference_mode():
        inputs = (torch.from_numpy(columns), torch.from_numpy(noise.normal()))
        device = next(network.parameters()).device
        expected = network(*(x.to(device) for x in inputs), None).cpu().numpy()
    difference = relative_difference(draw(columns, noise), expected, network.data.threshold)
    return int((~(difference <= TOLERANCE)).sum())
