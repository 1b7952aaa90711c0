"""CaloChallenge's HDF5, which is also what caloforge writes: ``incident_energies`` (N, 1) and ``showers`` (N, V), MeV."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloforge.preprocessing.readers.layout import layout_of
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.showers import WRITTEN, open_showers


def recognises(path: Path) -> bool:
    """Return whether a file has the two datasets, showers being flat."""
    held = layout_of(path)
    return "incident_energies" in held and "showers" in held and len(held["showers"].shape) == 2


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open a file.

    Raises:
        InputError: see :func:`caloforge.showers.open_showers`.
    """
    showers = open_showers(path, geometry, particle=particle)
    said = {key: value for key, value in showers.attributes.items() if key not in WRITTEN}
    return ShowerStream(
        files=(path,),
        geometry=showers.geometry,
        count=len(showers),
        conditions=showers.conditions.names,
        read=showers.pairs,
        threshold=showers.threshold,
        attributes={key: value for key, value in said.items() if not isinstance(value, np.ndarray)},
    )


CALOCHALLENGE = Reader("CaloChallenge HDF5", recognises, open_file)
