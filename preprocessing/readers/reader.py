"""What a reader of a format is, and the showers that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from caloforge.conditions import COLUMNS, ConditionName
from caloforge.errors import InputError
from caloforge.geometry import Geometry
from caloforge.showers import Conditions, VoxelArray


@dataclass(frozen=True)
class ShowerStream:
    """Showers of one or several files, read in chunks whenever they are asked for.

    Attributes:
        files: what they are read from.
        geometry: their mesh.
        count: how many there are.
        conditions: names of their conditions, the incident energy first.
        read: yields conditions (n) and voxels (n, V), float32 MeV, voxels in the order layer, then alpha, then r (r
            fastest); a new pass at each call. Memory must not depend on the number of showers.
        threshold: MeV; energy below which voxels were set to 0, if the source says so.
        attributes: what else the source says of itself (``particle``, ``source``, ...): text or numbers.
    """

    files: tuple[Path, ...]
    geometry: Geometry
    count: int
    conditions: tuple[str, ...]
    read: Callable[[], Iterator[tuple[Conditions, VoxelArray]]] = field(repr=False)
    threshold: float | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of showers."""
        return self.count

    def labelled(self, values: Mapping[ConditionName, float]) -> ShowerStream:
        """Return the stream with further conditions that are the same for all showers.

        Raises:
            InputError: the source says one of them itself.
        """
        if not values:
            return self
        where = ", ".join(file.name for file in self.files)
        if twice := [name for name in values if name in self.conditions]:
            raise InputError(f"--condition {twice[0]}: {where} says it for each shower; leave it out")
        read = self.read

        def labelled() -> Iterator[tuple[Conditions, VoxelArray]]:
            for conditions, voxels in read():
                yield conditions.labelled(values, where=where), voxels

        conditions = tuple(name for name in COLUMNS if name in {*values, *self.conditions})
        return replace(self, conditions=conditions, read=labelled)

    def pairs(self) -> Iterator[tuple[Conditions, VoxelArray]]:
        """Yield conditions and voxels of the showers, chunk by chunk, see :attr:`read`."""
        return self.read()


@dataclass(frozen=True)
class Reader:
    """A format of shower files.

    Attributes:
        title: what the format is called.
        recognises: says, from names and shapes alone, whether a file or folder is of the format; False too for what
            it cannot open.
        open: takes a file or folder that was recognised or that the user says is of the format, the mesh (name or
            binning XML; None: the source's own) and the particle where a binning XML has several; raises
            :class:`~caloforge.errors.InputError`. Units are converted here and nowhere else.
    """

    title: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, str | None, str | None], ShowerStream]
