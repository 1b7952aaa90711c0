"""LEMURS as one compound dataset: ``events`` with the fields that :mod:`caloforge.preprocessing.readers.par04` has as datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloforge.errors import InputError
from caloforge.hdf5 import find_dataset, names_in, open_hdf5, reading
from caloforge.preprocessing.readers.layout import layout_of
from caloforge.preprocessing.readers.mesh import Part, check_angles, open_mesh
from caloforge.preprocessing.readers.par04 import ANGLES
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.showers import Conditions, check_units

_FIELDS = ("showers", "incident_energy")


def recognises(path: Path) -> bool:
    """Return whether a file has a compound dataset ``events`` with showers and their incident energies."""
    held = layout_of(path)
    return "events" in held and set(_FIELDS) <= set(held["events"].fields)


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open a file.

    Raises:
        InputError: ``events`` is missing or has other fields, or see :mod:`caloforge.preprocessing.readers.mesh`.
    """
    with open_hdf5(path) as file:
        events = find_dataset(path, file, "events", fields=_FIELDS)
        if events is None:
            raise InputError(f"{path}: dataset 'events' is missing (found: {', '.join(names_in(file))})")
        check_units(path, events, "events")
        shape = events.dtype["showers"].shape
        if len(shape) != 3 or len(events.shape) != 1:
            raise InputError(f"{path}: events: expected showers of shape (R, PHI, Z), got {shape}")
        names = {"incident_energy": "incident_energy"} | {
            key: name for key, name in ANGLES.items() if name in events.dtype.names
        }
        with reading(path, "events"):
            columns = {key: np.asarray(events.fields(name)[:], dtype=np.float64) for key, name in names.items()}
    if columns["incident_energy"].ndim != 1:
        raise InputError(f"{path}: events: expected one incident_energy for each event")
    part = Part(
        "events", check_angles(path, Conditions.of({key: one.reshape(-1) for key, one in columns.items()})), "showers"
    )
    return open_mesh(path, [part], shape, geometry, particle)


LEMURS = Reader("LEMURS HDF5, compound events", recognises, open_file)
