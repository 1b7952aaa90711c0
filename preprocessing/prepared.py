"""Prepared data: which showers are good, which split each belongs to, and the fitted transforms."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from caloforge.arrays import fill, read_arrays, read_weights
from caloforge.conditions import ConditionName
from caloforge.config import Config
from caloforge.domain import Domains, DomainTable
from caloforge.errors import InputError, unknown_name
from caloforge.files import read_json
from caloforge.geometry import Geometry, stored_geometry
from caloforge.showers import MOST_MEV, Conditions, Showers, open_showers
from caloforge.source import Source

if TYPE_CHECKING:
    from caloforge.preprocessing.transforms import Transforms

logger = logging.getLogger(__name__)

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

GENERATED: tuple[Split, ...] = ("validation", "test")
"""Splits that generators are judged on: their conditions are kept, so that generation needs no showers."""


@dataclass(frozen=True)
class Prepared:
    """What preprocessing leaves: a folder of indices and fitted numbers, no copy of the showers.

    Attributes:
        path: the folder.
        record: the content of ``prepared.json``.
        geometry: the mesh.
        splits: rows of the shower file, rising, per split.
    """

    path: Path
    record: dict[str, Any]
    geometry: Geometry
    splits: dict[str, NDArray[np.int64]]

    @property
    def threshold(self) -> float:
        """Energy in MeV below which a voxel is 0."""
        return float(self.record["threshold"])

    @property
    def domains(self) -> Domains:
        """What the conditions of the good showers are, the incident energy first."""
        return DomainTable.model_validate(self.record["conditions"]).domains

    @property
    def conditions(self) -> tuple[ConditionName, ...]:
        """Names of the conditions, the incident energy first."""
        return tuple(self.domains)

    @property
    def phi_symmetric(self) -> bool:
        """Whether the showers look the same from all sides in alpha."""
        return bool(self.record["phi_symmetric"])

    @property
    def source(self) -> Source | None:
        """Where the showers came from; None in a folder that an older version wrote."""
        record = self.record.get("source")
        return None if record is None else Source.of(record)

    def conditions_of(self, split: Split) -> Conditions:
        """Return the conditions of a split's showers, in their order, without the shower file.

        Raises:
            InputError: of this split none are kept, or an older version wrote the folder.
        """
        if split not in GENERATED:
            raise unknown_name("split with conditions", split, GENERATED)
        file = self.path / "conditions.npz"
        if not file.is_file():
            raise InputError(f"{self.path}: prepared by an older version; run caloforge preprocess again")
        columns = read_arrays(file, [f"{split}_{name}" for name in self.conditions])
        kept = {name: columns[f"{split}_{name}"] for name in self.conditions}
        for name, values in kept.items():
            if (
                values.dtype.kind not in "fi"
                or values.shape != self.splits[split].shape
                or not np.isfinite(values).all()
            ):
                text = f"expected {len(self.splits[split])} finite numbers; run preprocess again"
                raise InputError(f"{file}: {split}_{name}: {text}")
        return Conditions.of(kept)

    def transforms(self) -> Transforms:
        """Return the fitted transforms."""
        return load_transforms(self.path, self.geometry, self.record["settings"]["voxel_scaling"])


def load_transforms(folder: Path, geometry: Geometry, voxel_scaling: str) -> Transforms:
    """Read the fitted transforms from ``transform.safetensors`` in a folder.

    Raises:
        InputError: the file is damaged, of another mesh, or another version fitted them.
    """
    from caloforge.preprocessing.transforms import VOXEL_SCALINGS, Transforms

    file = folder / "transform.safetensors"
    state = read_weights(file)
    if voxel_scaling not in VOXEL_SCALINGS or not any(name.startswith("hits.") for name in state):
        raise InputError(f"{folder}: prepared by another version; run caloforge preprocess again")
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise InputError(f"{file}: {wrong[0]} holds a number that is not finite")
    found = Transforms.of(geometry, voxel_scaling)
    for part, module in found._asdict().items():
        fill(module, {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}, where=file)
    return found


def load_prepared(path: Path) -> Prepared:
    """Read a folder that :func:`caloforge.preprocessing.prepare.prepare` wrote.

    Raises:
        InputError: it is not such a folder.
    """
    if not (path / "prepared.json").is_file():
        raise InputError(f"{path}: not a folder of prepared data (prepared.json is missing); run preprocess first")
    record = read_json(path / "prepared.json")
    if isinstance(record, dict) and record.get("format") == 1:
        raise InputError(f"{path}: prepared by an older version; run caloforge preprocess again")
    _Record.parse(record, where=str(path / "prepared.json"))
    geometry = stored_geometry(path, name=record["geometry"])
    splits: dict[str, NDArray[np.int64]] = read_arrays(path / "splits.npz", SPLITS)
    n = record["quality"]["showers"]
    for name, rows in splits.items():
        if (
            rows.dtype.kind not in "iu"
            or rows.ndim != 1
            or not len(rows)
            or (np.diff(rows.astype(np.int64)) <= 0).any()
        ):
            raise InputError(f"{path / 'splits.npz'}: {name}: expected rising row numbers; run preprocess again")
        if rows[0] < 0 or rows[-1] >= n:
            raise InputError(f"{path / 'splits.npz'}: {name}: row {rows[-1]} of {n} showers; run preprocess again")
    return Prepared(path, record, geometry, splits)


class _Quality(Config, extra="allow"):
    showers: int = Field(ge=1)


class _Settings(Config, extra="allow"):
    voxel_scaling: str


class _Input(Config, extra="allow"):
    sha256: str


class _Inputs(Config, extra="allow"):
    showers: _Input


class _Provenance(Config, extra="allow"):
    inputs: _Inputs


class _Record(Config, extra="allow"):
    """What is read of ``prepared.json``, whatever else it says."""

    geometry: str
    settings: _Settings
    threshold: float = Field(gt=0, lt=MOST_MEV, strict=True)
    conditions: DomainTable
    phi_symmetric: bool
    quality: _Quality
    provenance: _Provenance
    source: dict[str, Any] | None = None


def open_split(showers: Path, prepared: Path, split: str) -> Showers:
    """Return a view of the good showers of one split.

    Args:
        showers: the shower file that was prepared.
        prepared: folder of the prepared data.
        split: ``train``, ``validation`` or ``test``.

    Raises:
        InputError: unknown split, or the file is not the one that was prepared.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    found = load_prepared(prepared)
    opened = open_showers(showers, found.geometry)
    if len(opened) != found.record["quality"]["showers"]:
        msg = (
            f"{showers}: holds {len(opened)} showers but {prepared} was made from "
            f"{found.record['quality']['showers']}; run preprocess on this file"
        )
        raise InputError(msg)
    kept = found.conditions_of("test").incident_energy
    if not np.allclose(opened.select(found.splits["test"]).conditions.incident_energy, kept, rtol=1e-5):
        raise InputError(f"{showers}: is not the file that {prepared} was made from; run preprocess on this file")
    chosen = opened.select(found.splits[split])
    logger.info("the %s split is %s", split, chosen.share())
    return chosen
