"""Par04's first HDF5 (Zenodo 6082201): a dataset for each incident energy, named after it in GeV."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from caloforge.errors import InputError
from caloforge.hdf5 import find_dataset, open_hdf5
from caloforge.preprocessing.readers.layout import Held, layout_of
from caloforge.preprocessing.readers.mesh import Part, angle_of, check_angles, open_mesh
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.showers import Conditions, check_units


def _energies(held: dict[str, Held]) -> dict[str, float]:
    """Return the datasets that are named after an energy, and it in GeV, rising."""
    found = {name: float(name) for name, one in held.items() if _ENERGY.fullmatch(name) and len(one.shape) == 4}
    return dict(sorted(found.items(), key=lambda one: one[1]))


_ENERGY = re.compile(r"\d+(\.\d+)?")


def recognises(path: Path) -> bool:
    """Return whether a file has a dataset (n, R, PHI, Z) named after an energy."""
    return bool(_energies(layout_of(path)))


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open a file; its energies come one after the other, rising.

    Raises:
        InputError: it has no such datasets, their meshes differ, or see :mod:`caloforge.preprocessing.readers.mesh`.
    """
    held = layout_of(path)
    energies = _energies(held)
    if not energies:
        raise InputError(f"{path}: no dataset (n, R, PHI, Z) is named after an energy in GeV, as '1', '2', '4'")
    shapes = {name: held[name].shape[1:] for name in energies}
    first = next(iter(shapes))
    theta, parts = angle_of(path), []
    with open_hdf5(path) as file:
        for name, energy in energies.items():
            if shapes[name] != shapes[first]:
                raise InputError(
                    f"{path}: the mesh of {name!r} is {shapes[name]}, but that of {first!r} {shapes[first]}"
                )
            dataset = find_dataset(path, file, name)
            assert dataset is not None
            check_units(path, dataset, name)
            n = held[name].shape[0]
            angle = None if theta is None else np.full(n, theta)
            parts.append(Part(name, check_angles(path, Conditions(np.full(n, 1000 * energy), theta=angle))))
    return open_mesh(path, parts, shapes[first], geometry, particle)


PAR04_ENERGIES = Reader("Par04 HDF5, a dataset for each energy", recognises, open_file)
