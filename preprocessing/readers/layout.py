"""What an HDF5 file holds, by names and shapes."""

from __future__ import annotations

from pathlib import Path

import h5py

from caloforge.hdf5 import open_hdf5, reading


def layout_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each dataset at the top of an HDF5 file; empty if it is no HDF5 file.

    Raises:
        InputError: it is HDF5, and cut off or damaged.
    """
    if not path.is_file() or not h5py.is_hdf5(path):
        return {}
    with open_hdf5(path) as file, reading(path, "its datasets"):
        found = {name: file.get(name) for name in file}
        return {name: one.shape or () for name, one in found.items() if isinstance(one, h5py.Dataset)}
