"""Geant4's Par04 as it writes HDF5 now, and LEMURS: ``showers`` (N, R, PHI, Z) and ``incident_energy`` (N,), MeV."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.hdf5 import find_dataset, names_in, open_hdf5, reading
from caloforge.preprocessing.readers.layout import layout_of
from caloforge.preprocessing.readers.mesh import Part, check_angles, open_mesh
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.showers import Conditions, check_units

ANGLES = {"theta": "incident_theta", "phi": "incident_phi"}
"""Rad: the polar angle from the axis of the barrel, so that pi/2 is perpendicular, and the azimuth."""


def recognises(path: Path) -> bool:
    """Return whether a file has the two datasets, showers having four dimensions."""
    held = layout_of(path)
    return "incident_energy" in held and "showers" in held and len(held["showers"].shape) == 4


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open a file.

    Raises:
        InputError: a dataset is missing or has another number of rows, or see
            :mod:`caloforge.preprocessing.readers.mesh`.
    """
    with open_hdf5(path) as file:
        showers = find_dataset(path, file, "showers")
        if showers is None or len(showers.shape) != 4:
            found = "none" if showers is None else f"shape {showers.shape}"
            raise InputError(f"{path}: expected a dataset showers (N, R, PHI, Z), found {found}")
        check_units(path, showers, "showers")
        shape = showers.shape
        energy = _column(path, file, "incident_energy", shape[0])
        if energy is None:
            raise InputError(f"{path}: dataset 'incident_energy' is missing (found: {', '.join(names_in(file))})")
        angles = {
            key: values for key, name in ANGLES.items() if (values := _column(path, file, name, shape[0])) is not None
        }
    part = Part("showers", check_angles(path, Conditions.of({"incident_energy": energy, **angles})))
    return open_mesh(path, [part], shape[1:], geometry, particle)


def _column(path: Path, file: h5py.File, name: str, n: int) -> NDArray[np.float64] | None:
    dataset = find_dataset(path, file, name)
    if dataset is None:
        return None
    check_units(path, dataset, name)
    if dataset.shape not in ((n,), (n, 1)):
        raise InputError(f"{path}: {name}: expected shape ({n},), as many as showers, got {dataset.shape}")
    with reading(path, name):
        return np.asarray(dataset, dtype=np.float64).reshape(-1)


PAR04 = Reader("Par04 and LEMURS HDF5", recognises, open_file)
