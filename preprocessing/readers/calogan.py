"""CaloGAN's HDF5, which CaloFlow reads too: ``layer_0`` to ``layer_2`` in MeV and ``energy`` in GeV.

Three layers of liquid argon and lead, 480 mm x 480 mm wide, with cells of 5 x 160, 40 x 40 and 80 x 40 mm (eta x phi;
Paganini, de Oliveira and Nachman, arXiv:1712.10321, and the description of their data at Mendeley). What missed the cells
(``overflow``) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from caloforge.errors import InputError
from caloforge.geometry import load_geometry
from caloforge.hdf5 import find_dataset, names_in, open_hdf5, reading
from caloforge.hdf5_rows import read_rows
from caloforge.preprocessing.readers.layout import layout_of
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.showers import CHUNK_BYTES, Conditions, VoxelArray

_LAYERS = {"layer_0": (3, 96), "layer_1": (12, 12), "layer_2": (12, 6)}
"""Rows in phi, columns in eta."""


def recognises(path: Path) -> bool:
    """Return whether a file has the layers and the incident energies."""
    held = layout_of(path)
    return "energy" in held and all(name in held and len(held[name].shape) == 3 for name in _LAYERS)


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open a file.

    Raises:
        InputError: a dataset is missing, or has other cells or another number of showers.
    """
    with open_hdf5(path) as file:
        found = {}
        for name in ("energy", *_LAYERS):
            if (dataset := find_dataset(path, file, name)) is None:
                raise InputError(f"{path}: dataset {name!r} is missing (found: {', '.join(names_in(file))})")
            found[name] = dataset
        n = found["energy"].shape[0]
        for name, cells in _LAYERS.items():
            if found[name].shape != (n, *cells):
                raise InputError(f"{path}: {name}: expected shape {(n, *cells)}, got {found[name].shape}")
        if found["energy"].size != n:
            raise InputError(f"{path}: energy: expected shape ({n}, 1), got {found['energy'].shape}")
        with reading(path, "energy"):
            conditions = Conditions(1000 * np.asarray(found["energy"], dtype=np.float64).reshape(-1))
    conditions.check(where=path)
    mesh = load_geometry(geometry or "calogan", particle=particle)
    if mesh.n_voxels != sum(rows * columns for rows, columns in _LAYERS.values()):
        raise InputError(f"{path}: has 504 cells, but geometry {mesh.name!r} has {mesh.n_voxels}")

    def read() -> Iterator[tuple[Conditions, VoxelArray]]:
        rows = max(1, CHUNK_BYTES // (4 * mesh.n_voxels))
        with open_hdf5(path) as file:
            datasets = {name: find_dataset(path, file, name) for name in _LAYERS}
            for start in range(0, n, rows):
                layers = []
                for name, dataset in datasets.items():
                    with reading(path, f"{name}, rows {start} to {start + rows}"):
                        block = np.asarray(read_rows(dataset, start, start + rows), dtype=np.float32)
                    layers.append(block.reshape(len(block), -1))
                voxels = np.concatenate(layers, axis=1)
                yield conditions.take(slice(start, start + len(voxels))), voxels

    return ShowerStream((path,), mesh, n, conditions.names, read)


CALOGAN = Reader("CaloGAN HDF5", recognises, open_file)
