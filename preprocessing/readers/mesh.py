"""Showers of the mesh of Geant4's example Par04: (N, R, PHI, Z) energy deposits in MeV.

The mesh is a cylinder around the direction of the particle, from where it enters the calorimeter on, whatever its angle.
It is not that of a CaloChallenge dataset of as many voxels: those hold the deposits divided by the sampling fraction,
and other detectors have other sizes of cells. What a detector is called is taken from the names of file and folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from caloforge.errors import InputError
from caloforge.geometry import CylindricalGeometry, Geometry, load_geometry
from caloforge.hdf5 import find_dataset, open_hdf5, reading, rows_at_a_time
from caloforge.hdf5_rows import read_rows
from caloforge.preprocessing.readers.reader import ShowerStream
from caloforge.showers import CHUNK_BYTES, Conditions, VoxelArray

_DETECTORS = {"siw": "SiW", "scipb": "SciPb", "odd": "ODD", "fcceecld": "FCCeeCLD", "fcceeallegro": "FCCeeALLEGRO"}
"""As names of files and folders have them, in lower case, and as they are called."""

_MESHES = {
    ("SiW", (18, 50, 45)): "par04_siw",
    ("SciPb", (18, 50, 45)): "par04_scipb",
    ("SiW", (9, 16, 45)): "par04_siw_coarse",
}
"""Geometry of the package, by detector and numbers of bins in r, phi and z (Zenodo 6082201, Geant4's Par04)."""


@dataclass(frozen=True)
class Part:
    """A dataset of showers and their conditions.

    Attributes:
        dataset: name of the dataset, (n, R, PHI, Z).
        conditions: n.
        field: that holds the showers, if the dataset is compound; its shape is (n,) then.
    """

    dataset: str
    conditions: Conditions
    field: str = ""


def open_mesh(
    path: Path, parts: Sequence[Part], shape: tuple[int, ...], geometry: str | None, particle: str | None
) -> ShowerStream:
    """Return the showers of a file.

    Args:
        path: the file.
        parts: its showers.
        shape: numbers of bins in r, phi and z.
        geometry: the mesh, by name or as a binning XML; None: by the detector in the names.
        particle: which one, where the binning XML has several.

    Raises:
        InputError: it is not known which mesh this is, or the one that is given has other bins.
    """
    mesh = _geometry(path, shape, geometry, particle)

    def read() -> Iterator[tuple[Conditions, VoxelArray]]:
        with open_hdf5(path) as file:
            for part in parts:
                yield from _read(path, file, part)

    return ShowerStream(
        files=(path,),
        geometry=mesh,
        count=sum(len(part.conditions) for part in parts),
        conditions=parts[0].conditions.names,
        read=read,
        attributes={"detector": detector} if (detector := detector_of(path)) else {},
    )


def _read(path: Path, file: h5py.File, part: Part) -> Iterator[tuple[Conditions, VoxelArray]]:
    dataset = find_dataset(path, file, part.dataset, fields=(part.field,) if part.field else ())
    assert dataset is not None, "the reader has looked"
    rows = rows_at_a_time(dataset, CHUNK_BYTES)
    for start in range(0, len(part.conditions), rows):
        with reading(path, f"{part.dataset}, rows {start} to {start + rows}"):
            stop = min(start + rows, len(part.conditions))
            block = dataset.fields(part.field)[start:stop] if part.field else read_rows(dataset, start, stop)
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is no energy
            block = np.asarray(block, dtype=np.float32)
        # (n, R, PHI, Z) to layer, alpha, r
        voxels = np.ascontiguousarray(block.transpose(0, 3, 2, 1)).reshape(len(block), -1)
        yield part.conditions.take(slice(start, start + len(block))), voxels


def detector_of(path: Path) -> str:
    """Return the detector that the names of a file or of its folders say, the innermost counts; empty if none does."""
    for name in (path.name, *(folder.name for folder in path.absolute().parents)):
        words = [re.sub(r"^par04", "", word) for word in re.split(r"[^a-z0-9]+", name.lower())]
        if found := [_DETECTORS[word] for word in words if word in _DETECTORS]:
            return found[0]
    return ""


def angle_of(path: Path) -> float | None:
    """Return the polar angle in rad that a file's name says in degrees (``SiW_angle_70.h5``); None if it says none.

    It is the angle between the particle and the axis of the barrel: at 90 degrees the particle enters perpendicularly.

    Raises:
        InputError: at that angle no particle enters a barrel.
    """
    said = re.search(r"angle_?(\d+(?:\.\d+)?)", path.name, re.IGNORECASE)
    if said is None:
        return None
    degrees = float(said[1])
    if not 0 < degrees < 180:
        text = f"its name says an angle of {said[1]} degrees, at which no particle enters a barrel; 90 is perpendicular"
        raise InputError(f"{path}: {text}")
    return float(np.radians(degrees))


def check_angles(path: Path, conditions: Conditions) -> Conditions:
    """Return conditions that the mesh can hold: it lies along a particle that enters a barrel from within.

    Raises:
        InputError: a particle flies along the barrel's axis, or an angle is none in rad.
    """
    conditions.check(where=path)
    if (theta := conditions.theta) is not None and (wrong := (theta <= 0) | (theta >= np.pi)).any():
        where = int(np.argmax(wrong))
        text = f"row {where} is {theta[where]:g} rad, along the axis of the barrel, which such a particle never enters"
        raise InputError(f"{path}: incident_theta: {text}")
    return conditions


def _geometry(path: Path, shape: tuple[int, ...], geometry: str | None, particle: str | None) -> Geometry:
    n_r, n_phi, n_z = shape
    if geometry is None:
        detector = detector_of(path)
        known = _MESHES.get((detector, (n_r, n_phi, n_z)))
        if known is None:
            names = ", ".join(sorted({name for name, _ in _MESHES}))
            said = (
                f"of {detector}, whose"
                if detector
                else f"and neither file nor folder are named after a detector ({names}); the"
            )
            text = f"has a mesh of {n_r} x {n_phi} x {n_z} (r, phi, z) {said} sizes of cells are not known"
            raise InputError(
                f"{path}: {text}: give --geometry, a name ({', '.join(_MESHES.values())}) or a binning XML"
            )
        geometry = known
    mesh = load_geometry(geometry, particle=particle, n_voxels=n_r * n_phi * n_z)
    if isinstance(mesh, CylindricalGeometry) and mesh.is_regular:
        first = mesh.active_layers[0]
        if (first.n_r, first.n_alpha, mesh.n_layers) == (n_r, n_phi, n_z):
            return mesh
        text = f"{first.n_r} x {first.n_alpha} x {mesh.n_layers}"
    else:
        text = "layers of different bins" if isinstance(mesh, CylindricalGeometry) else "cells"
    raise InputError(f"{path}: its mesh is {n_r} x {n_phi} x {n_z} (r, phi, z), but {mesh.name!r} has {text}")
