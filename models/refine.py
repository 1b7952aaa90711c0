"""Correct the showers of a fast simulation with a trained corrector, streaming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caloforge.domain import check_inside
from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.bundle import GeneratorFailed
from caloforge.models.noise import NoiseStream
from caloforge.models.refiner_bundle import load_refiner
from caloforge.outputs import check_file
from caloforge.progress import Progress
from caloforge.provenance import provenance
from caloforge.showers import Showers, cut, write_showers
from caloforge.steps import step

BATCH = 1000


class RowDraws(Draws):
    """Random numbers that belong to rows: those of row i depend on the seed and i alone."""

    def __init__(self, noise: Tensor) -> None:
        """Take (B, F) standard normal numbers, which are used column by column."""
        self._noise, self._used = noise, 0
        self.device = noise.device

    def normal(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return the next standard normal numbers."""
        n = math.prod(shape[1:])
        found = self._noise[:, self._used : self._used + n].reshape(shape)
        self._used += n
        return found if dtype is None else found.to(dtype)

    def uniform(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return the next uniform numbers in [0, 1)."""
        found = 0.5 * (1 + torch.erf(self.normal(*shape).double() / math.sqrt(2)))
        return found.clamp(0, 1 - 1e-7).to(dtype or self._noise.dtype)


def refine(refiner: Path, fast: Showers, output: Path, *, seed: int = 0, steps: int | None = None) -> dict[str, float]:
    """Write a shower file in which each shower of a fast simulation is corrected; same conditions, same order.

    Args:
        refiner: folder of the corrector.
        fast: showers of the simulation that it was trained on, or of one like it.
        output: HDF5 file to write, CaloChallenge layout.
        seed: the same seed gives the same showers.
        steps: of the sampler; None for the corrector's own.

    Returns:
        ``showers``.

    Raises:
        InputError: the corrector is damaged, the showers have another mesh or conditions outside the trained range,
            or the file may not be written.
        GeneratorFailed: a corrected shower is not finite.
    """
    check_file(output, inputs=[refiner, fast.path])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trained = load_refiner(refiner, device=device)
    network, threshold = trained.network, trained.record.threshold
    if said := trained.geometry.difference(fast.geometry):
        raise InputError(f"{fast.path}: its mesh is not that of the refiner {refiner}: {said}")
    domains = network.data.domains
    if missing := [name for name in domains if name not in fast.conditions.names]:
        raise InputError(f"{fast.path}: has no {missing[0]}, which the refiner {refiner} needs")
    check_inside(fast.conditions, domains, extrapolation="refuse")
    noise = NoiseStream(seed, network.noise_features)
    attributes: dict[str, Any] = {
        "energy_threshold": threshold,
        "source": f"caloforge refiner of {fast.attributes.get('source', fast.path.name)}",
    }
    made = provenance(inputs={"refiner": trained.weights, "fast": fast.path}, seed=seed)
    progress = Progress("refining", len(fast), unit="shower")
    with (
        step("refine"),
        write_showers(output, fast.geometry, attributes=attributes, provenance=made) as writer,
        torch.inference_mode(),
    ):
        for start in range(0, len(fast), BATCH):
            some = fast.select(np.arange(start, min(start + BATCH, len(fast))))
            columns = np.stack([getattr(some.conditions, name) for name in domains], 1).astype(np.float32)
            draws = RowDraws(torch.from_numpy(noise.rows(len(some))).to(device))
            voxels = torch.from_numpy(cut(some.read(), threshold)).to(device)
            found = network.refine(torch.from_numpy(columns).to(device), voxels, draws, steps).cpu().numpy()
            if not np.isfinite(found).all():
                raise GeneratorFailed(
                    f"shower {start + int(np.argmin(np.isfinite(found).all(axis=1)))} is not finite after its correction; "
                    "train the refiner again"
                )
            writer.append(some.conditions, found)
            progress.update(start + len(some))
    return {"showers": float(len(fast))}
