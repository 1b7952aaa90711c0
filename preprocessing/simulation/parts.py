"""The finished showers of a simulation that goes on: one file for every few seconds of work of a process."""

from __future__ import annotations

import fcntl
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from caloforge.conditions import Conditions
from caloforge.errors import InputError
from caloforge.files import atomic_file
from caloforge.outputs import RECORD

_NAME = re.compile(r"showers-(\d{9,})-(\d+)\.npz")

_AT_WORK = ".at-work"

DESCRIPTION = "simulation.json"
"""What is simulated, so that a later run goes on with nothing else."""

EXTRA = ("cpu_seconds", "edep_active_total", "edep_active_in_mesh", "n_active_hits")
"""What is kept of each shower beside its voxels: CPU time in s, deposits in the sensitive volumes in all and within the
mesh in MeV, before scale and threshold, and the number of steps that made them."""


@dataclass(frozen=True)
class Part:
    """The file of some showers whose numbers follow each other.

    Attributes:
        path: the file.
        first: number of its first shower.
        count: how many there are.
    """

    path: Path
    first: int
    count: int

    @property
    def geant4(self) -> str:
        """Version of Geant4."""
        with self._opened() as found:
            return str(found["geant4"])

    def read(self, n_voxels: int) -> tuple[Conditions, NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Return conditions, voxels (n, V) in MeV as stored, and :data:`EXTRA`.

        Args:
            n_voxels: V.

        Raises:
            InputError: the file is damaged.
        """
        with self._opened() as found:
            columns = {name[10:]: found[name] for name in found.files if name.startswith("condition_")}
            extra = {name: found[name] for name in EXTRA}
            voxels = found["voxels"]
            if voxels.shape != (self.count, n_voxels) or any(len(one) != self.count for one in extra.values()):
                raise ValueError(f"voxels of shape {voxels.shape}")
            return Conditions.of(columns), voxels, extra

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Open the file; what NumPy raises within the block becomes one line."""
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as found:
                yield found
        except (ValueError, KeyError, EOFError, AttributeError, BadZipFile, zlib.error) as error:
            text = "these showers are lost; remove it and give the same command again, which simulates them anew"
            raise InputError(f"{self.path}: damaged ({error}): {text}") from None


def write_part(
    folder: Path,
    first: int,
    *,
    conditions: Conditions,
    voxels: NDArray[np.float32],
    extra: Mapping[str, NDArray[Any]],
    geant4: str,
) -> None:
    """Write the showers from number ``first`` on; the file is there whole or not at all."""
    columns = {f"condition_{name}": getattr(conditions, name) for name in conditions.names}
    with atomic_file(folder / f"showers-{first:09d}-{len(voxels)}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, voxels=voxels, geant4=np.array(geant4), **columns, **extra)


def parts_of(folder: Path) -> list[Part]:
    """Return the parts in a folder in the order of their showers."""
    found = [
        Part(path, int(match[1]), int(match[2])) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))
    ]
    return sorted(found, key=lambda part: part.first)


def missing(parts: list[Part], n: int) -> Iterator[range]:
    """Yield the numbers below ``n`` of showers that are in no part, as ranges."""
    done = 0
    for part in parts:
        if part.first > done:
            yield range(done, min(part.first, n))
        done = max(done, part.first + part.count)
        if done >= n:
            return
    if done < n:
        yield range(done, n)


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """Say, for as long as the block lasts, that this process writes parts into a folder."""
    with (folder / _AT_WORK).open("a", encoding="utf-8") as file:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def wait_for_workers(folder: Path) -> None:
    """Wait until the workers of a run that was killed have written what they had."""
    with (folder / _AT_WORK).open("a", encoding="utf-8") as work, suppress(OSError):  # a disk without locks
        fcntl.flock(work, fcntl.LOCK_EX)


def remove(folder: Path) -> None:
    """Remove the parts and what else a simulation has in its folder, and the folder if nothing else is there."""
    for name in (DESCRIPTION, _AT_WORK, RECORD, *(part.path.name for part in parts_of(folder))):
        (folder / name).unlink(missing_ok=True)
    for log in folder.glob("geant4-*.log"):
        log.unlink()
    with suppress(OSError):  # somebody else put something there
        folder.rmdir()
