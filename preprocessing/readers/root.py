"""ROOT trees with a vector of hits for each event, as a mapping file says; ALICE FoCal-H's simulation is one.

The source is the mapping, not the ROOT file: a tree says neither its units nor where its channels are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import COLUMNS
from caloforge.errors import InputError
from caloforge.geometry import CellGeometry, Geometry, geometry_names, load_geometry
from caloforge.preprocessing.readers.cell_finder import Finder, finder
from caloforge.preprocessing.readers.reader import Reader, ShowerStream
from caloforge.preprocessing.readers.root_mapping import MEV, MM, RootMapping, is_mapping
from caloforge.showers import CHUNK_BYTES, Conditions, VoxelArray

logger = logging.getLogger(__name__)

MOST_OUTSIDE = 0.5
"""Share of the energy in no cell above which positions and cells are in different units or of different detectors."""


def open_file(path: Path, geometry: str | None, particle: str | None) -> ShowerStream:
    """Open the files of a mapping.

    Raises:
        InputError: the mapping is wrong, uproot is not installed, or a file is cut off, lacks tree or branch, or holds
            values that are none.
    """
    mapping = RootMapping.from_yaml(path)
    mesh = _geometry(path, mapping, geometry, particle)
    files = _files(path, mapping)
    trees = [_Tree(file, mapping, mesh) for file in files]
    conditions = [tree.conditions() for tree in trees]

    def read() -> Iterator[tuple[Conditions, VoxelArray]]:
        lost = total = 0.0
        for tree, of_tree in zip(trees, conditions, strict=True):
            start = 0
            for voxels, outside in tree.voxels():
                lost, total = lost + outside, total + outside + _size(voxels)
                yield of_tree.take(slice(start, start + len(voxels))), voxels
                start += len(voxels)
        if lost > MOST_OUTSIDE * total:
            text = f"{lost / total:.0%} of the energy is in no cell of {mesh.name!r}"
            raise InputError(f"{path}: {text}: are length_unit and the cells (mm) right, and is it this detector?")
        if lost:
            logger.warning("%s: %.2g %% of the energy is in no cell of %s", path.name, 100 * lost / total, mesh.name)

    return ShowerStream(
        files=(path, *files),
        geometry=mesh,
        count=sum(map(len, conditions)),
        conditions=conditions[0].names,
        read=read,
        attributes={"tree": mapping.tree},
    )


def _size(energies: NDArray[Any]) -> float:
    """Return the sum of energies without their signs, of those that are finite: others are told where showers are checked."""
    return float(np.abs(energies[np.isfinite(energies)]).sum(dtype=np.float64))


def _geometry(path: Path, mapping: RootMapping, geometry: str | None, particle: str | None) -> Geometry:
    """Return the cells: those that are asked for, or those of the mapping, whose files are beside it."""
    name = geometry or mapping.geometry
    if geometry is None and name not in geometry_names():
        name = str(path.parent / name)
    return load_geometry(name, particle=particle)


def _files(path: Path, mapping: RootMapping) -> list[Path]:
    found = []
    for pattern in mapping.files:
        if not pattern.strip():
            raise InputError(f"{path}: files: holds an empty name")
        inside = sorted(path.parent.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        there = [one for one in inside if one.is_file()]
        if not there:
            raise InputError(f"{path}: files: nothing is called {pattern!r} in {path.parent}")
        found += there
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class _Tree:
    """The tree of one file."""

    path: Path
    mapping: RootMapping
    mesh: Geometry

    def conditions(self) -> Conditions:
        """Return the conditions of all events."""
        with self._opened() as (file, tree):
            n = tree.num_entries
            if not n:
                raise InputError(f"{self.path}: tree {self.mapping.tree!r} has no events")
            hits = self.mapping.hits
            for branch in filter(None, (hits.energy, hits.x, hits.y, hits.channel, hits.layer)):
                self._branch(tree, branch)
            columns = {}
            for name, (quantity, factor) in self.mapping.quantities().items():
                if quantity.branch:
                    branch = self._branch(tree, quantity.branch)
                    with _reading(self.path):
                        values = branch.array(library="np")
                    if values.shape != (n,) or values.dtype.kind not in "iuf":
                        text = f"expected a number for each event, found {values.dtype} of shape {values.shape}"
                        raise InputError(f"{self.path}: branch {quantity.branch!r}: {text}")
                elif quantity.parameter:
                    values = np.full(n, self._parameter(file, quantity.parameter))
                else:
                    values = np.full(n, quantity.value)
                columns[name] = values * factor
                if name == "particle":  # its numbers become whole below
                    COLUMNS["particle"].check(columns[name], where=f"{self.path}: {COLUMNS['particle'].dataset}")
            if (eta := columns.pop("eta", None)) is not None:
                columns["theta"] = 2 * np.arctan(np.exp(-eta))
        conditions = Conditions.of(columns)
        conditions.check(where=self.path)
        return conditions

    def voxels(self) -> Iterator[tuple[VoxelArray, float]]:
        """Yield the voxels of some events (n, V), MeV, and the energy in MeV that is in none of them."""
        hits, size = self.mapping.hits, self.mesh.n_voxels
        names = [name for name in (hits.energy, hits.x, hits.y, hits.channel, hits.layer) if name]
        step = max(1, CHUNK_BYTES // (8 * size))
        with self._opened() as (_, tree):
            for start in range(0, tree.num_entries, step):
                with _reading(self.path):
                    arrays = tree.arrays(names, entry_start=start, entry_stop=start + step, library="ak")
                yield self._filled(arrays, len(arrays), start)

    def _vector(self, arrays: Any, name: str, *, names: bool = False) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Return how many values a branch has for each event, and all of them.

        Raises:
            InputError: it has no numbers, or (with ``names``) names, as a vector for each event.
        """
        import awkward

        found = arrays[name]
        if found.ndim == 2:
            with _reading(self.path):
                flat = np.asarray(awkward.flatten(found))
            if flat.dtype.kind in ("iufUO" if names else "iuf"):
                return np.asarray(awkward.num(found, axis=1)), flat
        text = f"expected a vector of numbers for each event, found {found.type.content}"
        raise InputError(f"{self.path}: branch {name!r}: {text}")

    def _layers(self, numbers: NDArray[Any]) -> NDArray[np.int64]:
        if (whole := np.isfinite(numbers) & (numbers == np.floor(numbers))).all():
            return numbers.astype(np.int64)
        wrong = numbers[int(np.argmin(whole))]
        raise InputError(f"{self.path}: branch {self.mapping.hits.layer!r}: {wrong:g} is not the number of a layer")

    def _filled(self, arrays: Any, n: int, start: int) -> tuple[VoxelArray, float]:
        hits, size = self.mapping.hits, self.mesh.n_voxels
        counts, numbers = self._vector(arrays, hits.energy)
        energy = numbers.astype(np.float64) * (hits.energy_scale * MEV[hits.energy_unit])
        flat = {}
        for name in filter(None, (hits.x, hits.y, hits.channel, hits.layer)):
            of_each, flat[name] = self._vector(arrays, name, names=name == hits.channel)
            if not (same := of_each == counts).all():
                event = start + int(np.argmin(same))
                raise InputError(f"{self.path}: event {event}: {name} has another number of values than {hits.energy}")
        if hits.x:
            scale = MM[hits.length_unit or "mm"]
            layer = self._layers(flat[hits.layer]) if hits.layer else np.zeros(len(energy), np.int64)
            cell = self._finder(layer, scale * flat[hits.x].astype(float), scale * flat[hits.y].astype(float))
        elif hits.channel:
            cell = self._of_channels(flat[hits.channel], start)
        else:
            if (counts != size).any():
                event = start + int(np.argmax(counts != size))
                text = f"{hits.energy} has {counts[event - start]} values, but {self.mesh} needs {size}"
                raise InputError(f"{self.path}: event {event}: {text}; or name branches x and y, or channel")
            cell = np.tile(np.arange(size), n)
        inside = cell >= 0
        place = np.repeat(np.arange(n), counts)[inside] * size + cell[inside]
        voxels = np.bincount(place, weights=energy[inside], minlength=n * size).reshape(n, size)
        return voxels.astype(np.float32), _size(energy[~inside])

    @cached_property
    def _finder(self) -> Finder:
        if self.mesh.n_layers > 1 and not self.mapping.hits.layer:
            raise InputError(f"geometry {self.mesh} has several layers: hits need a branch layer, or channel")
        return finder(self.mesh)

    def _of_channels(self, channels: NDArray[Any], start: int) -> NDArray[np.int64]:
        known, inverse = np.unique(channels, return_inverse=True)
        names = [f"{one:g}" if isinstance(one, float) else str(one) for one in known.tolist()]
        if missing := [name for name in names if name not in self._channels]:
            text = f"channel {missing[0]} is not in {self.mesh.name!r}, whose {len(self._channels)} channels begin with"
            raise InputError(f"{self.path}: from event {start} on: {text} {', '.join(list(self._channels)[:4])}")
        return np.asarray([self._channels[name] for name in names], dtype=np.int64)[inverse]

    @cached_property
    def _channels(self) -> dict[str, int]:
        if not isinstance(self.mesh, CellGeometry):
            raise InputError(f"geometry {self.mesh} has no channels; give a CSV of cells, or name branches x and y")
        return {cell.channel: number for number, cell in enumerate(self.mesh.cells)}

    def _branch(self, tree: Any, name: str) -> Any:
        if name not in tree:
            here = ", ".join(sorted(tree.keys(recursive=False)))
            raise InputError(f"{self.path}: tree {self.mapping.tree!r} has no branch {name!r} (found: {here})")
        return tree[name]

    def _parameter(self, file: Any, name: str) -> float:
        if name not in file:
            raise InputError(f"{self.path}: has no TParameter {name!r} (found: {_keys(file)})")
        found = getattr(file[name], "value", None)
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InputError(f"{self.path}: {name!r} is no TParameter with a number, but {file.classname_of(name)}")
        return float(found)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        try:
            import uproot
        except ImportError:
            raise InputError(f"{self.path}: ROOT files need uproot: pip install 'caloforge[root]'") from None
        with _reading(self.path):  # without caches, which would grow with the file
            file = uproot.open(self.path, array_cache=None, object_cache=None)
        with file:
            with _reading(self.path):
                if self.mapping.tree not in file:
                    raise InputError(f"{self.path}: has no tree {self.mapping.tree!r} (found: {_keys(file)})")
                tree = file[self.mapping.tree]
            if not hasattr(tree, "num_entries"):
                kind = file.classname_of(self.mapping.tree)
                raise InputError(f"{self.path}: {self.mapping.tree!r} is no tree, but {kind}")
            yield file, tree


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what uproot raises into one line: a file that is cut off makes it raise whatever its bytes lead to."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - see above
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: cannot be read ({said}); is it a whole ROOT file? copy it again") from None


def _keys(file: Any) -> str:
    return ", ".join(file.keys(cycle=False)[:12]) or "nothing"


ROOT = Reader("ROOT trees by a mapping", is_mapping, open_file)
