"""Geometries as files, as HDF5 attributes and by the names they have in the package."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from caloforge.errors import InputError, unknown_name
from caloforge.files import atomic_file
from caloforge.geometry.base import Geometry
from caloforge.geometry.cells import CellGeometry
from caloforge.geometry.cylinder import CylindricalGeometry

FORMS = ("xml", "csv")
"""How geometries are written: a binning XML of rings, a table of cells."""

ATTRIBUTES = frozenset({"geometry_name", *(f"geometry_{form}" for form in FORMS)})
"""Attributes that :func:`geometry_attributes` writes."""

GEOMETRY_FILES = tuple(f"geometry.{form}" for form in FORMS)
"""Files that :func:`write_geometry` writes, one of them."""


def geometry_attributes(geometry: Geometry) -> dict[str, str]:
    """Return a geometry as texts: ``geometry_name``, and ``geometry_xml`` of rings or ``geometry_csv`` of cells.

    They are attributes of shower files and parameters of a server's answer; :func:`geometry_of` reads them.
    """
    return {"geometry_name": geometry.name, f"geometry_{geometry.form}": geometry.to_text()}


def geometry_of(
    attributes: Mapping[str, Any], *, name: str, particle: str | None = None, n_voxels: int | None = None
) -> Geometry | None:
    """Return the geometry that :func:`geometry_attributes` wrote among others, None if there is none.

    Args:
        attributes: of a file.
        name: what to call the geometry if the attributes do not say.
        particle: see :meth:`CylindricalGeometry.from_text`.
        n_voxels: see :meth:`CylindricalGeometry.from_text`.

    Raises:
        InputError: an attribute is no geometry's.
    """
    for form in FORMS:
        if (text := attributes.get(f"geometry_{form}")) is not None:
            called = str(attributes.get("geometry_name", name))
            try:
                return _from_text(form, text, name=called, particle=particle, n_voxels=n_voxels)
            except InputError as error:
                raise InputError(f"attribute geometry_{form}: {error}") from None
    return None


def write_geometry(geometry: Geometry, folder: Path) -> Path:
    """Write ``geometry.xml`` or ``geometry.csv`` into a folder, atomically, and return its path."""
    path = folder / f"geometry.{geometry.form}"
    with atomic_file(path) as temporary:
        temporary.write_text(geometry.to_text(), encoding="utf-8")
    return path


def stored_geometry(folder: Path, *, name: str) -> Geometry:
    """Return the geometry that :func:`write_geometry` wrote into a folder, under the name it had.

    Raises:
        InputError: it is not there or cannot be read.
    """
    there = [path for file in GEOMETRY_FILES if (path := folder / file).exists()]
    return read_geometry(there[0] if there else folder / GEOMETRY_FILES[0], name=name)


def geometry_names() -> list[str]:
    """Return the names of the geometries that come with the package."""
    return sorted(_packaged())


def _packaged() -> dict[str, str]:
    """Return the form of each geometry of the package by its name."""
    entries = (entry.name.rpartition(".") for entry in (files("caloforge") / "geometries").iterdir())
    return {name: form for name, _, form in entries if form in FORMS}


def load_geometry(name_or_path: str | Path, *, particle: str | None = None, n_voxels: int | None = None) -> Geometry:
    """Return a geometry by the name it has in the package, or from a binning XML file or a CSV table of cells.

    Args:
        name_or_path: name, or path of the file.
        particle: see :meth:`CylindricalGeometry.from_text`.
        n_voxels: see :meth:`CylindricalGeometry.from_text`.

    Raises:
        InputError: neither such a name nor such a file, or the file is of neither kind.
    """
    path, name, packaged = Path(name_or_path), str(name_or_path), _packaged()
    if name in packaged:
        text = (files("caloforge") / "geometries" / f"{name}.{packaged[name]}").read_bytes()
        return _from_text(packaged[name], text, name=name, particle=particle)
    if path.suffix.lower()[1:] not in FORMS:
        raise unknown_name("geometry (or path of a binning .xml or of a .csv table of cells)", name, packaged)
    return read_geometry(path, name=re.sub(r"^binning_", "", path.stem), particle=particle, n_voxels=n_voxels)


def read_geometry(path: Path, *, name: str, particle: str | None = None, n_voxels: int | None = None) -> Geometry:
    """Return the geometry of a binning XML file or a CSV table of cells under a name.

    Raises:
        InputError: it cannot be read, or is not what its suffix says.
    """
    form = path.suffix.lower()[1:]
    kind = "binning file" if form == "xml" else "table of cells"
    try:
        return _from_text(form, path.read_bytes(), name=name, particle=particle, n_voxels=n_voxels)
    except OSError as error:
        raise InputError(f"{path}: the {kind} cannot be read ({error.strerror})") from None
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{name}: ')}") from None


def geometries_with(n_voxels: int) -> list[str]:
    """Return the names of the package's geometries that have so many voxels."""
    return [name for name in geometry_names() if load_geometry(name).n_voxels == n_voxels]


def _from_text(
    form: str, text: str | bytes, *, name: str, particle: str | None = None, n_voxels: int | None = None
) -> Geometry:
    if form == "csv":
        return CellGeometry.from_text(text, name=name)
    return CylindricalGeometry.from_text(text, name=name, particle=particle, n_voxels=n_voxels)
