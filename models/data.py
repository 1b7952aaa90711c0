"""Training batches: showers decompressed once to a scratch file, then drawn at random."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from caloforge.models.two_stage import TwoStageGenerator
from caloforge.preprocessing.prepared import Prepared
from caloforge.progress import Progress
from caloforge.showers import Showers

logger = logging.getLogger(__name__)


class TrainingData:
    """Showers of the training split in a memory-mapped file, so that memory does not grow with them.

    Batches depend only on their number: showers are permuted once per epoch with a seed made from
    the epoch, so a training that resumes at step n sees what it would have seen.
    """

    def __init__(self, showers: Showers, prepared: Prepared, scratch: Path, *, seed: int) -> None:
        """Write the scratch file.

        Args:
            showers: the training split.
            prepared: its prepared data.
            scratch: folder for ``voxels.npy``; the caller removes it.
            seed: of the order of showers.
        """
        geometry = showers.geometry
        self._seed = seed
        self._n = len(showers)
        self._phi_orders = _phi_orders(prepared)
        conditions = showers.conditions
        self._conditions = torch.from_numpy(
            np.stack([getattr(conditions, name) for name in conditions.names], 1).astype(np.float32)
        )
        scratch.mkdir(parents=True, exist_ok=True)
        shape = (self._n, geometry.n_voxels)
        self._voxels = np.lib.format.open_memmap(scratch / "voxels.npy", mode="w+", dtype=np.float32, shape=shape)
        self._layers = torch.zeros(self._n, geometry.n_layers)
        layer_of_voxel = torch.as_tensor(geometry.layer_of_voxel)
        progress = Progress("reading showers", self._n, unit="shower")
        start = 0
        for chunk in showers.chunks():
            stop = start + len(chunk)
            values = np.where(chunk < prepared.threshold, 0, chunk)
            self._voxels[start:stop] = values
            self._layers[start:stop].index_add_(1, layer_of_voxel, torch.from_numpy(values))
            progress.update(stop)
            start = stop
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Return the number of training showers."""
        return self._n

    def _rows(self, number: int, batch_size: int) -> Tensor:
        """Return the rows of batch ``number``; a batch never crosses an epoch."""
        batch_size = min(batch_size, self._n)
        per_epoch = self._n // batch_size
        epoch, place = divmod(number, per_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._n)
            self._order, self._epoch = torch.from_numpy(order), epoch
        return self._order[place * batch_size : (place + 1) * batch_size].sort().values

    def layer_batch(
        self, model: TwoStageGenerator, number: int, batch_size: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return x = [coded ratios, active] (B, 2L) and conditions (B, C) for the first stage."""
        device = generator.device
        rows = self._rows(number, batch_size)
        conditions, energy = self._conditions[rows].to(device), self._layers[rows].to(device)
        y, active = model.layer_transform.encode(energy, conditions[:, :1], generator)
        return torch.cat([y, active.to(y.dtype)], 1), model.encoder(conditions)

    def voxel_batch(
        self, model: TwoStageGenerator, number: int, batch_size: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return coded voxels (B, V) and conditions (B, C) for the second stage.

        Where the sample looks the same from all sides, each shower is turned by a random number of
        alpha bins and mirrored half of the time.
        """
        device = generator.device
        rows = self._rows(number, batch_size)
        voxels = torch.from_numpy(self._voxels[rows.numpy()]).to(device)
        conditions, energy = self._conditions[rows].to(device), self._layers[rows].to(device)
        if self._phi_orders is not None:
            orders = self._phi_orders.to(device)
            pick = torch.randint(len(orders), (len(rows),), generator=generator, device=device)
            voxels = voxels.gather(1, orders[pick])
        context = model.sums.context(energy, model.threshold)
        return model.voxel_transform.encode(voxels, context, generator), model.voxel_condition(conditions, energy)


def _phi_orders(prepared: Prepared) -> Tensor | None:
    """Return all rotations and reflections in alpha as voxel orders, (2 * rotations, V)."""
    if not prepared.phi_symmetric:
        return None
    geometry = prepared.geometry
    # The same angle is a different number of bins in layers that are cut differently; such
    # geometries would need one count per layer, and are left as they are.
    if len({geometry.active_layers[i].n_alpha for i in geometry.alpha_layers}) != 1:
        return None
    orders = [
        geometry.rotation(turns, mirror=mirror) for mirror in (False, True) for turns in range(geometry.n_rotations)
    ]
    return torch.from_numpy(np.stack(orders))
