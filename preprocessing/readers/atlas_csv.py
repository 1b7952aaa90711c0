"""CSV of ATLAS's open data (FastCaloGAN, record 15012), from which CaloChallenge's dataset 1 is made.

A file for each particle, energy and slice of pseudorapidity, ``pid22_E65536_eta_20_25_voxalisation.csv``: energy in MeV,
pseudorapidity in hundredths; no header, a line for each shower, a column for each voxel, MeV. Negative voxels, which
noise makes, are 0 as in CaloChallenge.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caloforge.errors import InputError
from caloforge.geometry import Geometry, load_geometry
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.showers import CHUNK_BYTES, Conditions, VoxelArray

logger = logging.getLogger(__name__)

_NAME = re.compile(r"pid(?P<pid>-?\d+)_E(?P<energy>\d+)_eta_(?P<low>-?\d+)_(?P<high>-?\d+).*\.csv", re.IGNORECASE)

_MESHES = {(22, 20, 25): "dataset_1_photons", (211, 20, 25): "dataset_1_pions"}
"""Geometry of the package by particle and slice of pseudorapidity; others need a binning XML."""


class _Said(NamedTuple):
    """What a file's name says: PDG code, MeV, and limits of the pseudorapidity in hundredths."""

    pid: int
    energy: float
    low: int
    high: int


def _said(path: Path) -> _Said | None:
    found = _NAME.fullmatch(path.name)
    return found and _Said(int(found["pid"]), float(found["energy"]), int(found["low"]), int(found["high"]))


def recognises(path: Path) -> bool:
    """Return whether a file has such a name."""
    return path.is_file() and _said(path) is not None


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open a file, and count its lines.

    Raises:
        InputError: the name does not say particle and energy, the mesh is not known, or a line is none of numbers.
    """
    said = _said(path)
    if said is None:
        raise InputError(f"{path}: expected a name such as pid22_E65536_eta_20_25_voxalisation.csv")
    with path.open("rb") as file:
        columns = file.readline().count(b",") + 1
        file.seek(0)
        n, last = 0, b"\n"
        while block := file.read(2**20):
            n, last = n + block.count(b"\n"), block[-1:]
        n += last != b"\n"  # the last line may have no end
    conditions = Conditions.of({"incident_energy": np.full(n, said.energy), "particle": np.full(n, said.pid)})
    conditions.check(where=path)
    mesh = _geometry(path, said, columns, geometry, particle)

    def read() -> Iterator[tuple[Conditions, VoxelArray]]:
        done = negative = 0
        rows = max(1, CHUNK_BYTES // (4 * columns))
        with path.open(encoding="utf-8") as file:
            while done < n:
                voxels = _lines(path, file, min(rows, n - done), columns, done)
                negative += int((voxels < 0).sum())
                np.maximum(voxels, 0, out=voxels)  # NaN stays
                yield conditions.take(slice(done, done + len(voxels))), voxels
                done += len(voxels)
        if negative:
            logger.info("%s: %d negative voxels are 0", path.name, negative)

    slices = f"{said.low / 100:.2f} to {said.high / 100:.2f}"
    return ShowerStream((path,), mesh, n, conditions.names, read, attributes={"eta": slices})


def _lines(path: Path, file: object, rows: int, columns: int, done: int) -> VoxelArray:
    try:
        voxels = np.loadtxt(file, dtype=np.float32, delimiter=",", max_rows=rows, ndmin=2, comments=None)  # type: ignore[call-overload]
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: after line {done}: {error}") from None
    if voxels.shape != (rows, columns):
        text = f"after line {done}: expected {rows} lines of {columns} numbers, found {voxels.shape[0]} of {voxels.shape[1]}"
        raise InputError(f"{path}: {text}; is the file whole?")
    return np.asarray(voxels)


def _geometry(path: Path, said: _Said, columns: int, geometry: str | None, particle: str | None) -> Geometry:
    name = geometry or _MESHES.get(said[:1] + said[2:])
    if name is None:
        text = f"the mesh of particle {said.pid} at a pseudorapidity of {said.low / 100:.2f} to {said.high / 100:.2f}"
        raise InputError(f"{path}: {text} is not known; give its binning XML with --geometry")
    mesh = load_geometry(name, particle=particle, n_voxels=columns)
    if mesh.n_voxels != columns:
        raise InputError(f"{path}: has {columns} columns, but geometry {mesh.name!r} has {mesh.n_voxels} voxels")
    return mesh


ATLAS_CSV = Reader("ATLAS open-data CSV", recognises, open_file)
