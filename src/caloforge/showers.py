"""Showers on disk: the CaloChallenge HDF5 layout, read lazily in chunks and written atomically."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.conditions import COLUMNS, ETA
from caloforge.conditions import Conditions as Conditions  # noqa: PLC0414 - most know it by this module
from caloforge.errors import InputError
from caloforge.geometry import ATTRIBUTES as OF_GEOMETRY
from caloforge.geometry import Geometry, geometries_with, geometry_attributes, geometry_of, load_geometry
from caloforge.hdf5 import find_dataset, names_in, open_hdf5, read_attributes, reading, rows_at_a_time
from caloforge.hdf5_output import Hdf5Output
from caloforge.hdf5_rows import RowWriter, read_rows
from caloforge.outputs import result_file

logger = logging.getLogger(__name__)

VoxelArray = NDArray[np.float32]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

VARIANT = "variant"
"""Attribute of generated showers: what ran the generator (library, precision, threads), which its time is of."""

CPU_SECONDS = "extra/cpu_seconds"
"""Dataset of the CPU time that a full simulation took for each shower."""

MOST_MEV = 1e15
"""No energy is as large, and float32 still counts with it."""

CHUNK_BYTES = 8 * 2**20
"""How much of a file is in memory at a time while streaming."""

_DENSE = 8
"""Rows are read in blocks where at least one of so many is selected."""

TEST_FROM = "test_from"
"""Attribute of files whose last showers are kept for the judging of generators: the first row of these."""

_NEEDED = OF_GEOMETRY | {"energy_threshold", "threshold_deposit_MeV", "energy_scale", TEST_FROM}
"""Attributes that change what is read."""

WRITTEN = frozenset({"units", "unit", "voxel_order", "provenance"}) | _NEEDED
"""Attributes that are of the file, not of its showers: whoever writes the showers elsewhere says them anew."""

_OTHER_UNITS = re.compile(r"\b[TGk]?eV\b|\bdeg(rees?)?\b", re.IGNORECASE)
_OWN_UNITS = re.compile(r"\b(MeV|rad(ians?)?)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Showers:
    """A shower file, or a selection of its rows; voxels are read only when asked for.

    Made by :func:`open_showers`.

    Attributes:
        path: the HDF5 file.
        geometry: its mesh.
        attributes: the file's attributes.
        rows: (n,) rising row numbers of the selection.
    """

    path: Path
    geometry: Geometry
    attributes: Mapping[str, Any] = field(repr=False)
    rows: IntArray = field(repr=False)

    def __len__(self) -> int:
        """Return the number of selected showers."""
        return len(self.rows)

    def select(self, rows: ArrayLike) -> Self:
        """Return a view of some of the selected showers.

        Args:
            rows: rising numbers that count from 0 among the showers selected now.
        """
        picked = self.rows[np.asarray(rows, dtype=np.int64)]
        if np.any(np.diff(picked) <= 0):
            raise InputError(f"{self.path.name}: selected rows must rise without repetition")
        return type(self)(self.path, self.geometry, self.attributes, picked)

    @cached_property
    def conditions(self) -> Conditions:
        """Conditions of the selected showers.

        Raises:
            InputError: an incident energy is none that a particle has, an angle is none in rad, or a particle is no PDG code.
        """
        found = {}
        with open_hdf5(self.path) as file:
            for column in (*COLUMNS.values(), ETA):
                if (dataset := find_dataset(self.path, file, column.dataset)) is not None:
                    with reading(self.path, column.dataset):
                        values = np.asarray(dataset, dtype=np.float64).reshape(-1)[self.rows]
                    column.check(values, where=f"{self.path}: {column.dataset}", rows=self.rows)
                    found[column.dataset] = values
        columns = {name: found[column.dataset] for name, column in COLUMNS.items() if column.dataset in found}
        if "theta" not in columns and ETA.dataset in found:
            columns["theta"] = 2 * np.arctan(np.exp(-found[ETA.dataset]))
        return Conditions.of(columns)

    @cached_property
    def cpu_seconds(self) -> FloatArray | None:
        """CPU time that the full simulation took for each of the selected showers, (n,) s; None if the file says nothing.

        Raises:
            InputError: the file says something else than a time for each shower.
        """
        with open_hdf5(self.path) as file:
            if CPU_SECONDS.partition("/")[0] not in file:
                return None
            found = find_dataset(self.path, file, CPU_SECONDS)
            if found is None:
                return None
            if found.size != len(file["showers"]):
                raise InputError(
                    f"{self.path}: {CPU_SECONDS}: has {found.size} rows but showers {len(file['showers'])}"
                )
            with reading(self.path, CPU_SECONDS):
                seconds = np.asarray(found, dtype=np.float64).reshape(-1)[self.rows]
        wrong = ~((seconds >= 0) & np.isfinite(seconds))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"{self.path}: {CPU_SECONDS}: row {self.rows[row]} is {seconds[row]:g}; expected seconds")
        return seconds

    def chunks(self, size: int | None = None, *, threshold: float | None = None) -> Iterator[VoxelArray]:
        """Yield the selected showers in order, (n, V) float32 MeV, n at most ``size``.

        Memory does not depend on the size of the file.

        Args:
            size: most showers at a time.
            threshold: MeV; smaller energies are 0, see :func:`cut`. Without it all are as in the file.
        """
        with open_hdf5(self.path) as file:
            voxels = find_dataset(self.path, file, "showers")
            assert voxels is not None, "looked for when the file was opened"
            for rows in self._batches(voxels, size):
                # What does not fit a float32 becomes infinite, and is no energy.
                with reading(self.path, f"showers, rows {rows[0]} to {rows[-1]}"), np.errstate(over="ignore"):
                    values = _read_rows(voxels, rows)
                yield values if threshold is None else cut(values, threshold)

    def _batches(self, voxels: h5py.Dataset, size: int | None) -> Iterator[IntArray]:
        """Yield the selected rows in parts: of so many, or such that each chunk of the file is decompressed once."""
        n = len(self.rows)
        if size is None and n and n * _DENSE >= self.rows[-1] + 1 - self.rows[0]:
            step = rows_at_a_time(voxels, CHUNK_BYTES)
            cuts = np.searchsorted(self.rows, np.arange(0, self.rows[-1] + step + 1, step))
        else:
            step = size or max(1, CHUNK_BYTES // (4 * self.geometry.n_voxels))
            cuts = np.minimum(np.arange(0, n + step, step), n)
        for start, stop in pairwise(cuts):
            if stop > start:
                yield self.rows[start:stop]

    def pairs(self) -> Iterator[tuple[Conditions, VoxelArray]]:
        """Yield conditions and voxels of the selected showers, chunk by chunk as :meth:`chunks` does."""
        start = 0
        for voxels in self.chunks():
            yield self.conditions.take(slice(start, start + len(voxels))), voxels
            start += len(voxels)

    def read(self, *, threshold: float | None = None) -> VoxelArray:
        """Read all selected showers at once, (n, V) float32 MeV, with the threshold of :meth:`chunks`."""
        result = np.empty((len(self), self.geometry.n_voxels), np.float32)
        start = 0
        for chunk in self.chunks(threshold=threshold):
            result[start : start + len(chunk)] = chunk
            start += len(chunk)
        return result

    def share(self) -> str:
        """Say how much of the file these showers are, as it lies on disk."""
        with open_hdf5(self.path) as file:
            total, stored = len(file["showers"]), file["showers"].id.get_storage_size() / 1e6
        part = f"{stored * len(self) / total:.1f} of {stored:.1f} MB"
        return f"{len(self)} of {total} showers of {self.path.name} (about {part})"

    @property
    def threshold(self) -> float | None:
        """Energy in MeV below which the file's voxels were set to 0, if the file says so."""
        if "energy_threshold" in self.attributes:
            return self._energy("energy_threshold")
        if "threshold_deposit_MeV" in self.attributes:
            scale = self._energy("energy_scale") if "energy_scale" in self.attributes else 1.0
            return self._energy("threshold_deposit_MeV") * scale
        return None

    @property
    def test_from(self) -> int | None:
        """First row of the file whose showers are only for the judging of generators; None if there is none."""
        row = self.attributes.get(TEST_FROM)
        if row is None:
            return None
        if not isinstance(row, int) or row < 1:
            raise InputError(f"{self.path}: attribute {TEST_FROM} is {row!r}; it must be the number of a row")
        return row

    def _energy(self, attribute: str) -> float:
        """Return an attribute that is a finite number, and not negative."""
        value = self.attributes[attribute]
        plain = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
        number = isinstance(plain, int | float) and not isinstance(plain, bool)
        if not number or not 0 <= plain < MOST_MEV:
            text = f"{self.path}: attribute {attribute} is {plain!r}; it must be a positive number of MeV"
            raise InputError(f"{text}: mend the file, or give --threshold MEV (a setting of the preprocessing)")
        return float(plain)


def cut(voxels: VoxelArray, threshold: float) -> VoxelArray:
    """Return voxel energies, any shape, MeV, with those below the threshold as 0; NaN stays."""
    return np.where(voxels < threshold, np.float32(0), voxels)


def _read_rows(voxels: h5py.Dataset, rows: IntArray) -> VoxelArray:
    """Read rising rows: one block read where they are dense, h5py's own selection where not."""
    first, last = int(rows[0]), int(rows[-1]) + 1
    if last - first == len(rows):
        return read_rows(voxels, first, last).astype(np.float32, copy=False)
    if last - first <= _DENSE * len(rows):
        parts = []
        step = max(1, len(rows))
        for start in range(first, last, step):
            block = read_rows(voxels, start, min(start + step, last))
            inside = rows[(rows >= start) & (rows < start + step)] - start
            parts.append(block[inside].astype(np.float32, copy=False))
        return np.concatenate(parts)
    return np.asarray(voxels[rows], dtype=np.float32)


def open_showers(path: Path, geometry: Geometry | str | Path | None = None, *, particle: str | None = None) -> Showers:
    """Open a CaloChallenge shower file.

    Args:
        path: HDF5 with ``incident_energies`` (N, 1) MeV and ``showers`` (N, V) MeV.
        geometry: of the showers, its name, its binning XML or its CSV of cells; without it the file's own attribute
            counts, or else the geometry of the package with as many voxels.
        particle: name or PDG code of the particle, where the binning XML has several with as many voxels.

    Raises:
        InputError: the file is missing, is not HDF5, lacks a dataset or part of one, has rows of
            different number or another unit than MeV, or does not fit the geometry.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        shape = _check_datasets(path, file)
        attributes = read_attributes(path, file, needed=_NEEDED)
    mesh = _resolve_geometry(path, shape[1], geometry, particle, attributes)
    return Showers(path, mesh, attributes, np.arange(shape[0]))


def _check_datasets(path: Path, file: h5py.File) -> tuple[int, int]:
    """Return the number of showers and of voxels."""
    found = {}
    for name in ("showers", *(column.dataset for column in (*COLUMNS.values(), ETA))):
        if (dataset := find_dataset(path, file, name)) is not None:
            found[name] = dataset
        elif name in ("incident_energies", "showers"):
            here = ", ".join(names_in(file)) or "nothing"
            raise InputError(f"{path}: dataset {name!r} is missing (found: {here})")
    shape = found["showers"].shape
    if len(shape) != 2:
        raise InputError(f"{path}: showers: expected shape (N, voxels), got {shape}")
    if shape[0] == 0:
        raise InputError(f"{path}: showers: the file holds no showers")
    for name, dataset in found.items():
        check_units(path, dataset, name)
        if name == "showers" or dataset.shape in ((shape[0],), (shape[0], 1)):
            continue
        if dataset.shape[:1] != shape[:1] and dataset.size != shape[0]:
            rows = dataset.shape[0] if dataset.shape else 1
            msg = f"{path}: {name} has {rows} rows but showers has {shape[0]}; they must be equal"
            raise InputError(msg)
        raise InputError(f"{path}: {name}: expected shape ({shape[0]}, 1), got {dataset.shape}")
    return shape[0], shape[1]


def check_units(path: Path, dataset: h5py.Dataset, name: str) -> None:
    """Refuse a dataset that says itself that it is in other units; most say nothing."""
    with reading(path, f"units of {name}"):
        for where in (dataset.attrs, dataset.file.attrs):
            said = where.get("units", where.get("unit", ""))
            text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
            if not _OWN_UNITS.search(text) and (other := _OTHER_UNITS.search(text)):
                raise InputError(f"{path}: {name}: says that its unit is {other[0]}; expected MeV and rad")


def _resolve_geometry(
    path: Path,
    n_voxels: int,
    geometry: Geometry | str | Path | None,
    particle: str | None,
    attributes: Mapping[str, Any],
) -> Geometry:
    if isinstance(geometry, Geometry):
        mesh = geometry
    elif geometry is not None:
        mesh = load_geometry(geometry, particle=particle, n_voxels=n_voxels)
    elif (stored := _stored_geometry(path, n_voxels, particle, attributes)) is not None:
        mesh = stored
    else:
        fitting = geometries_with(n_voxels)
        if not fitting:
            msg = (
                f"{path}: no known geometry has {n_voxels} voxels; give a binning XML or a CSV of cells with --geometry"
            )
            raise InputError(msg)
        mesh = load_geometry(fitting[0])
        says = f" (the file says: {attributes['geometry']})" if "geometry" in attributes else ""
        logger.warning(
            "%s carries no geometry; taking %s, which has %d voxels%s. --geometry sets another.",
            path.name, fitting[0], n_voxels, says,
        )  # fmt: skip
    if mesh.n_voxels != n_voxels:
        fitting = geometries_with(n_voxels)
        hint = f"{', '.join(fitting)} would fit" if fitting else "no geometry of the package would fit"
        msg = f"{path}: showers have {n_voxels} voxels but geometry {mesh.name!r} has {mesh.n_voxels}; {hint}"
        raise InputError(msg)
    return mesh


def _stored_geometry(path: Path, n_voxels: int, particle: str | None, attributes: Mapping[str, Any]) -> Geometry | None:
    try:
        return geometry_of(attributes, name=path.stem, particle=particle, n_voxels=n_voxels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class ShowerWriter:
    """Append showers to a file that is being written; made by :func:`write_showers`."""

    def __init__(self, path: Path, file: h5py.File, geometry: Geometry, output: Hdf5Output) -> None:
        """Take an open, empty HDF5 file that goes to ``path``; datasets are made with the first rows."""
        self._path, self._file = path, file
        self._geometry = geometry
        self._output = output
        self._datasets: dict[str, RowWriter] = {}

    def append(
        self, conditions: Conditions, voxels: ArrayLike, *, beside: Mapping[str, NDArray[Any]] | None = None
    ) -> None:
        """Add (n, V) voxel energies in MeV and their n conditions.

        Args:
            conditions: n rows.
            voxels: (n, V) MeV.
            beside: name of a dataset, e.g. ``extra/cpu_seconds``, to (n,) further numbers about the showers.

        Raises:
            InputError: a condition is none that a particle has.
        """
        conditions.check(where=self._path)
        values = np.asarray(voxels, dtype=np.float32)
        if values.shape != (len(conditions), self._geometry.n_voxels):
            msg = f"expected voxels of shape {(len(conditions), self._geometry.n_voxels)}, got {values.shape}"
            raise ValueError(msg)
        columns: dict[str, NDArray[Any]] = {"showers": values}
        for name in conditions.names:
            column, of_showers = COLUMNS[name], getattr(conditions, name)
            columns[column.dataset] = of_showers if column.whole else of_showers[:, None].astype(np.float32)
        for dataset, content in (columns | dict(beside or {})).items():
            self._extend(dataset, content)
        self._output.check()

    def _extend(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._datasets:
            self._datasets[name] = RowWriter(self._file, name, values.shape[1:], values.dtype)
        self._datasets[name].append(values)

    def finish(self) -> None:
        """Write what waits for more rows."""
        for dataset in self._datasets.values():
            dataset.finish()


@contextmanager
def write_showers(
    path: Path, geometry: Geometry, *, attributes: Mapping[str, Any], provenance: Mapping[str, Any]
) -> Iterator[ShowerWriter]:
    """Open a shower file for writing; it appears at ``path`` only when the block ends well.

    Args:
        path: where the file goes.
        geometry: its mesh, stored whole in the attributes.
        attributes: further attributes, e.g. ``energy_threshold`` (MeV) and ``source``.
        provenance: record of :func:`caloforge.provenance.provenance`.
    """
    with result_file(path) as temporary, closing(Hdf5Output(temporary)) as output:
        with h5py.File(output, "w") as file:
            file.attrs["units"] = "MeV"
            file.attrs["voxel_order"] = geometry.voxel_order
            file.attrs.update(geometry_attributes(geometry))
            file.attrs["provenance"] = json.dumps(provenance)
            for key, value in attributes.items():
                file.attrs[key] = value
            writer = ShowerWriter(path, file, geometry, output)
            yield writer
            writer.finish()
        output.check()
