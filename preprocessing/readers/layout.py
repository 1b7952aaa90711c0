"""What an HDF5 file holds, by names and shapes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py

from caloforge.hdf5 import names_in, open_hdf5, reading


@dataclass(frozen=True)
class Held:
    """A dataset at the top of a file.

    Attributes:
        shape: its shape.
        fields: names of the fields of a compound dataset, empty for numbers.
    """

    shape: tuple[int, ...]
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the shape, and the fields if there are any."""
        return f"{self.shape} of {', '.join(self.fields)}" if self.fields else str(self.shape)


def layout_of(path: Path) -> dict[str, Held]:
    """Return the datasets at the top of an HDF5 file; empty if it is no HDF5 file.

    Raises:
        InputError: it is HDF5, and cut off or damaged.
    """
    if not path.is_file() or not h5py.is_hdf5(path):
        return {}
    with open_hdf5(path) as file, reading(path, "its datasets"):
        found = {name: file.get(name) for name in names_in(file)}
        return {
            name: Held(one.shape or (), tuple(one.dtype.names or ()))
            for name, one in found.items()
            if isinstance(one, h5py.Dataset)
        }
