"""Any cells in any layers: rectangles of any size, such as the channels of a test beam's calorimeter."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import ClassVar, Self

import numpy as np

from caloforge.errors import InputError
from caloforge.geometry.base import MOST_MM, MOST_VOXELS, FloatArray, Geometry, IntArray, difference_of_sizes
from caloforge.geometry.rectangles import ALIKE, overlapping, side_by_side

_TURNS = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
_MIRRORED = tuple((a, b, -c, -d) for a, b, c, d in _TURNS)


@dataclass(frozen=True)
class Cell:
    """One cell of a layer: a rectangle along the axes.

    Attributes:
        channel: what it is called, once in a geometry.
        layer: number of its layer in the detector.
        x: middle in mm; the shower axis is at 0.
        y: middle in mm.
        width: extent in x, mm.
        height: extent in y, mm.
    """

    channel: str
    layer: int
    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        """Check name and numbers."""
        if not self.channel.strip():
            raise InputError(f"the cell at x = {self.x:g}, y = {self.y:g} mm of layer {self.layer} has no channel")
        for name in ("x", "y", "width", "height"):
            value = getattr(self, name)
            if not (math.isfinite(value) and abs(value) < MOST_MM):
                raise InputError(f"channel {self.channel}: {name} must be a finite number in mm, got {value:g}")
            if name in ("width", "height") and value <= 0:
                raise InputError(f"channel {self.channel}: {name} must be positive, got {value:g} mm")

    def __str__(self) -> str:
        """Return position and size, for messages."""
        return f"channel {self.channel} ({self.width:g} x {self.height:g} mm at {self.x:g}, {self.y:g})"


@dataclass(frozen=True)
class CellGeometry(Geometry):
    """Cells in the order of a shower's voxels: layer by layer, within a layer in any order.

    Attributes:
        name: what the geometry is called, e.g. ``focal_h_prototype_2``.
        cells: the cells; the numbers of their layers rise.
        depths: how deep each layer lies in mm, if that is known; else empty.
    """

    form: ClassVar[str] = "csv"
    voxel_order: ClassVar[str] = "layer, then the cells as in geometry_csv"

    cells: tuple[Cell, ...]
    depths: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse cells that repeat, overlap or are out of order."""
        if not self.cells:
            raise InputError(f"geometry {self.name!r} has no cells")
        if len(self.cells) > MOST_VOXELS:
            raise InputError(f"geometry {self.name!r} has {len(self.cells)} cells; a shower has {MOST_VOXELS} at most")
        seen: set[str] = set()
        for before, cell in zip((None, *self.cells), self.cells, strict=False):
            if before is not None and cell.layer < before.layer:
                raise InputError(f"layer {cell.layer} comes after layer {before.layer}; sort the cells by layer")
            if cell.channel in seen:
                raise InputError(f"channel {cell.channel} is there twice; each cell needs a channel of its own")
            seen.add(cell.channel)
        if self.depths and len(self.depths) != self.n_layers:
            raise InputError(f"{len(self.depths)} depths of {self.n_layers} layers; give one for each or none")
        for place in self.layer_slices:
            if (pair := overlapping(self._centres[place], self._sizes[place])) is not None:
                first, second = (self.cells[place.start + i] for i in pair)
                raise InputError(f"layer {first.layer}: {first} and {second} overlap; mend positions or sizes (in mm)")

    @cached_property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of cells of each layer, (L,)."""
        return tuple(len(list(cells)) for _, cells in groupby(self.cells, key=lambda cell: cell.layer))

    @cached_property
    def _centres(self) -> FloatArray:
        return np.asarray([(cell.x, cell.y) for cell in self.cells])

    @cached_property
    def _sizes(self) -> FloatArray:
        return np.asarray([(cell.width, cell.height) for cell in self.cells])

    @cached_property
    def eta_of_voxel(self) -> FloatArray:
        """Middle of each cell in x, mm, (V,)."""
        return self._centres[:, 0].copy()

    @cached_property
    def phi_of_voxel(self) -> FloatArray:
        """Middle of each cell in y, mm, (V,)."""
        return self._centres[:, 1].copy()

    @cached_property
    def r_of_voxel(self) -> FloatArray:
        """Distance of the middle of each cell from the shower axis in mm, (V,)."""
        return np.hypot(self._centres[:, 0], self._centres[:, 1])

    @cached_property
    def width_of_voxel(self) -> FloatArray:
        """Extent of each cell in x, mm, (V,)."""
        return self._sizes[:, 0].copy()

    @cached_property
    def height_of_voxel(self) -> FloatArray:
        """Extent of each cell in y, mm, (V,)."""
        return self._sizes[:, 1].copy()

    @cached_property
    def radius(self) -> float:
        """Distance of the outermost edge of all cells from the shower axis, along x or y, mm."""
        return float((np.abs(self._centres) + self._sizes / 2).max())

    @cached_property
    def is_regular(self) -> bool:
        """Whether all layers have the same cells in the same order."""
        return all(self.continues(i) for i in range(1, self.n_layers))

    def continues(self, layer: int) -> bool:
        """Whether a layer has the same cells in the same order as the one before it."""
        before, here = (self.layer_slices[i] for i in (layer - 1, layer))
        ours, theirs = (np.hstack([self._centres[place], self._sizes[place]]) for place in (before, here))
        return ours.shape == theirs.shape and bool(np.abs(ours - theirs).max() < ALIKE * self._sizes.min())

    @cached_property
    def area_of_voxel(self) -> FloatArray:
        """Area of each cell in mm^2, (V,)."""
        return self._sizes[:, 0] * self._sizes[:, 1]

    @cached_property
    def transverse_layers(self) -> tuple[int, ...]:
        """All layers with more than one cell."""
        return tuple(i for i, size in enumerate(self.layer_sizes) if size > 1)

    @cached_property
    def neighbours(self) -> IntArray:
        """Pairs of cells of the same layer with no room for another cell between them, (P, 2)."""
        return np.concatenate(
            [place.start + side_by_side(self._centres[place], self._sizes[place]) for place in self.layer_slices]
        )

    @cached_property
    def symmetries(self) -> IntArray:
        """Those of the 8 turns and mirrorings of a square about the shower axis that map cells onto cells, (S, V)."""
        from scipy.spatial import cKDTree  # a second to import, and this is asked in trainings only

        layers = self.layer_of_voxel[:, None] * 4 * MOST_MM
        tree = cKDTree(np.hstack([layers, self._centres, self._sizes]))
        near = ALIKE * self._sizes.min()
        orders = []
        for a, b, c, d in (*_TURNS, *_MIRRORED):
            # Where the energy of a cell comes from when showers are turned: the inverse, which is the transpose.
            centres = self._centres @ np.array([[a, b], [c, d]], dtype=float)
            sizes = self._sizes if b == 0 else self._sizes[:, ::-1]
            distance, order = tree.query(np.hstack([layers, centres, sizes]))
            if distance.max() < near:
                orders.append(order)
        return np.stack(orders).astype(np.int64)

    @property
    def is_symmetric(self) -> bool:
        """Whether a turn or a mirroring maps cells onto cells."""
        return len(self.symmetries) > 1

    @cached_property
    def asymmetries(self) -> FloatArray:
        """Cosine and sine of alpha and of 2 alpha less their means over the symmetries, (V, 4)."""
        alpha = np.arctan2(self._centres[:, 1], self._centres[:, 0])
        off_axis = self.r_of_voxel > ALIKE * self._sizes.min()
        waves = off_axis[:, None] * np.stack([f(k * alpha) for k in (1, 2) for f in (np.cos, np.sin)], axis=1)
        left: FloatArray = waves - waves[self.symmetries].mean(axis=0)
        return left

    @property
    def layer_depths(self) -> tuple[float, ...] | None:
        """Depth of each layer in mm, (L,), None if it is not known."""
        return self.depths or None

    def difference(self, other: Geometry) -> str | None:
        """Say where the cells of another geometry differ from these ones; None if they do not."""
        if not isinstance(other, CellGeometry):
            return f"it is {other} of rings, not {self} of cells"
        if said := difference_of_sizes(self, other):
            return said
        ours, theirs = (np.hstack([one._centres, one._sizes]) for one in (self, other))
        wrong = (np.abs(ours - theirs) > ALIKE * self._sizes.min()).any(axis=1)
        if not wrong.any():
            return None
        where = int(np.argmax(wrong))
        return f"cell {where} is {other.cells[where]}, not {self.cells[where]}"

    @classmethod
    def from_text(cls, text: str | bytes, *, name: str) -> Self:
        """Read a table of cells.

        Args:
            text: CSV with a line of column names: ``channel``, ``x``, ``y`` and ``width``, ``height`` (or ``size`` of
                square cells), mm; ``layer``, which without it is 0 for all; ``z``, the depth of the cell's layer in
                mm, if it is known. Other columns are nobody's business. As bytes in UTF-8.
            name: what to call the geometry, and what messages call the text.

        Raises:
            InputError: it is not such a table, or :class:`Cell` or :class:`CellGeometry` refuse what is in it.
        """
        try:
            decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
            rows = csv.DictReader(io.StringIO(decoded, newline=""), skipinitialspace=True, strict=True)
            _check_columns(rows.fieldnames or ())
            return cls._of_rows(name, rows)
        except csv.Error as error:
            raise InputError(f"{name}: not a CSV table ({error})") from None
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: not a CSV table in UTF-8 ({error.reason})") from None
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
        except TypeError:
            raise InputError(f"{name}: expected the text of a table of cells, got {type(text).__name__}") from None

    @classmethod
    def _of_rows(cls, name: str, rows: Iterable[Mapping[str, str | None]]) -> Self:
        cells: list[Cell] = []
        depths: dict[int, float] = {}
        for number, row in enumerate(rows, 2):
            try:
                cell = _cell_of(row)
                if "z" in row and (z := _number(row, "z")) != depths.setdefault(cell.layer, z):
                    raise InputError(f"layer {cell.layer} is at z = {z:g} mm, and before at {depths[cell.layer]:g}")
            except InputError as error:
                raise InputError(f"line {number}: {error}") from None
            cells.append(cell)
        return cls(name, tuple(cells), tuple(depths.values()))

    def to_text(self) -> str:
        """Return the table of the cells."""
        depths = dict(zip(dict.fromkeys(cell.layer for cell in self.cells), self.depths, strict=False))
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["channel", "layer", "x", "y", "width", "height", *(["z"] if depths else [])])
        for one in self.cells:
            numbers = [one.x, one.y, one.width, one.height, *([depths[one.layer]] if depths else [])]
            writer.writerow([one.channel, one.layer, *map(_shortest, numbers)])
        return table.getvalue()


def _check_columns(names: Iterable[str]) -> None:
    here = set(names)
    wanted = {"channel", "x", "y"} | (set() if "size" in here else {"width", "height"})
    if missing := sorted(wanted - here):
        found = ", ".join(sorted(here)[:12]) or "nothing"
        raise InputError(
            f"a table of cells has the columns channel, x, y and width, height or size; without {', '.join(missing)} "
            f"it is none (found: {found})"
        )
    if "size" in here and here & {"width", "height"}:
        raise InputError("a table of cells has either size or width and height, not both")


def _cell_of(row: Mapping[str, str | None]) -> Cell:
    sizes = ("size", "size") if "size" in row else ("width", "height")
    return Cell(
        (row["channel"] or "").strip(),
        _layer(row["layer"]) if "layer" in row else 0,
        *(_number(row, key) for key in ("x", "y", *sizes)),
    )


def _layer(text: str | None) -> int:
    try:
        return int(text or "")
    except ValueError:
        raise InputError(f"layer must be a whole number, got {text or ''!r}") from None


def _number(row: Mapping[str, str | None], key: str) -> float:
    try:
        value = float(row[key] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{key} must be a finite number in mm, got {row[key] or ''!r}")
    return value


def _shortest(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(float(value))
