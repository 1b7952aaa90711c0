"""Training batches: showers decompressed once to a scratch file, then drawn at random."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.batch import Batch
from caloforge.preprocessing.prepared import Prepared
from caloforge.progress import Progress
from caloforge.showers import Showers
from caloforge.space import reserve, space_told

logger = logging.getLogger(__name__)


class TrainingData:
    """Showers of the training split in a memory-mapped file, so that memory does not grow with them.

    Batches depend only on their number: showers are permuted once per epoch with a seed made from
    the epoch, so a training that resumes at step n sees what it would have seen. Several processes
    share the file, and each takes its rows of a batch.

    Attributes:
        geometry: the mesh: V voxels in L layers.
        threshold: MeV; no voxel is between 0 and this.
        phi_symmetric: whether the showers look the same from all sides in alpha.
    """

    def __init__(self, showers: Showers, prepared: Prepared, scratch: Path, *, seed: int, fabric: Fabric) -> None:
        """Write the scratch file.

        Args:
            showers: the training split.
            prepared: its prepared data.
            scratch: folder for ``voxels.npy``, ``layers.npy`` and ``hits.npy`` that all processes see; the caller removes it.
            seed: of the order of showers.
            fabric: the first of its processes writes, the others wait.

        Raises:
            InputError: a process does not see what the first one wrote.
            NoSpace: the disk is full.
        """
        self._seed = seed
        self._n = len(showers)
        self.geometry, self.threshold = prepared.geometry, prepared.threshold
        self.phi_symmetric = prepared.phi_symmetric
        self._phi_orders = _phi_orders(prepared)
        conditions, self._condition_names = showers.conditions, tuple(prepared.domains)
        self._conditions = torch.from_numpy(
            np.stack([getattr(conditions, name) for name in self._condition_names], 1).astype(np.float32)
        )
        if fabric.is_global_zero:
            with space_told(scratch):
                _unpack(showers, prepared.threshold, scratch)
        fabric.barrier()
        try:
            self._voxels, self._layers, self._hits = (
                np.load(scratch / f"{name}.npy", mmap_mode="r") for name in ("voxels", "layers", "hits")
            )
        except FileNotFoundError:
            text = (
                f"{scratch}: not what the first process sees there; give a folder for checkpoints that all nodes share"
            )
            raise InputError(text) from None
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def __len__(self) -> int:
        """Return the number of training showers."""
        return self._n

    def _rows(self, number: int, batch_size: int) -> Tensor:
        """Return the rows of batch ``number``; a batch never crosses an epoch."""
        per_epoch = self._n // batch_size
        epoch, place = divmod(number, per_epoch)
        if epoch != self._epoch:
            order = np.random.default_rng([self._seed, epoch]).permutation(self._n)
            self._order, self._epoch = torch.from_numpy(order), epoch
        return self._order[place * batch_size : (place + 1) * batch_size].sort().values

    def batch(self, number: int, size: int, draws: Draws, *, turned: bool = False) -> Batch:
        """Return batch ``number`` of ``size`` showers, or a process' share of it, on the device of ``draws``.

        Args:
            number: the same number gives the same showers.
            size: rows of the whole batch.
            draws: says which rows of it are wanted, and turns them.
            turned: turn each shower by a random number of alpha bins and mirror half of them, if the
                sample looks the same from all sides.
        """
        return self.rows(draws.share(self._rows(number, size)), draws, turned=turned)

    @property
    def conditions(self) -> Tensor:
        """(N, K) float32, raw, of all showers in their order."""
        return self._conditions

    def rows(self, rows: Tensor, draws: Draws, *, turned: bool = False) -> Batch:
        """Return showers by their numbers, (B,) on the CPU; otherwise as :meth:`batch`."""
        device = draws.device

        def voxels() -> Tensor:
            found = torch.from_numpy(self._voxels[rows.numpy()]).to(device)
            if not turned or self._phi_orders is None:
                return found
            orders = self._phi_orders.to(device)
            pick = draws.integers(0, len(orders), len(rows))
            return found.gather(1, orders[pick])

        return Batch(
            self.geometry,
            self.threshold,
            raw_conditions=self._conditions[rows].to(device),
            layer_energy=torch.from_numpy(self._layers[rows.numpy()]).to(device),
            layer_hits=torch.from_numpy(self._hits[rows.numpy()]).to(device),
            voxels=voxels,
            condition_names=self._condition_names,
        )

    def chunks(self, size: int = 1000) -> Iterator[Batch]:
        """Yield all showers once in their order, as they are, on the CPU; for what is fitted before a training."""
        for start in range(0, self._n, size):
            rows = slice(start, start + size)
            yield Batch(
                self.geometry,
                self.threshold,
                raw_conditions=self._conditions[rows],
                layer_energy=torch.from_numpy(self._layers[rows].copy()),
                layer_hits=torch.from_numpy(self._hits[rows].copy()),
                voxels=lambda rows=rows: torch.from_numpy(self._voxels[rows].copy()),  # type: ignore[misc]
                condition_names=self._condition_names,
            )


def _unpack(showers: Showers, threshold: float, folder: Path) -> None:
    """Write voxels (N, V) and layer energies (N, L) in MeV, and hits of layers (N, L), as files."""
    geometry = showers.geometry
    folder.mkdir(parents=True, exist_ok=True)
    shape = (len(showers), geometry.n_voxels)
    per_layer = (len(showers), geometry.n_layers)
    voxels, layers, hits = (
        _new_array(folder / f"{name}.npy", of_array)
        for name, of_array in (("voxels", shape), ("layers", per_layer), ("hits", per_layer))
    )
    layer_of_voxel = torch.as_tensor(geometry.layer_of_voxel)
    progress = Progress("reading showers", len(showers), unit="shower")
    start = 0
    for values in showers.chunks(threshold=threshold):
        stop = start + len(values)
        voxels[start:stop] = values
        for array, of_voxels in ((layers, values), (hits, (values > 0).astype(np.float32))):
            sums = torch.zeros(len(values), geometry.n_layers)
            array[start:stop] = sums.index_add_(1, layer_of_voxel, torch.from_numpy(of_voxels)).numpy()
        progress.update(stop)
        start = stop
    for array in (voxels, layers, hits):
        array.flush()


def _new_array(path: Path, shape: tuple[int, int]) -> np.memmap[Any, np.dtype[np.float32]]:
    """Return a float32 array in a file, for which there is room on the disk."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    with path.open("r+b") as file:
        reserve(file.fileno(), path.stat().st_size)
    return array


def _phi_orders(prepared: Prepared) -> Tensor | None:
    """Return the rotations and reflections of the geometry as voxel orders, (S, V); None if showers have none."""
    if not prepared.phi_symmetric:
        return None
    orders = prepared.geometry.symmetries
    return torch.from_numpy(orders) if len(orders) > 1 else None
