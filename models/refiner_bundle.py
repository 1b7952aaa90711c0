"""A trained corrector as a folder: all that correcting showers needs, loaded without running its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors.torch import save_file

from caloforge.arrays import fill, read_weights
from caloforge.config import Config
from caloforge.domain import DomainTable, as_dict
from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.geometry import Geometry, stored_geometry, write_geometry
from caloforge.models.bundle import GeneratorFailed, seal_bundle
from caloforge.models.family import DataSpec
from caloforge.models.refiner import Refiner, RefinerConfig, own_state
from caloforge.names import inside
from caloforge.outputs import result_folder
from caloforge.preprocessing.prepared import Prepared, load_transforms
from caloforge.result_kinds import REFINER

FORMAT: Literal[1] = 1
_TRANSFORM, _WEIGHTS = "transform.safetensors", "weights.safetensors"


class RefinerRecord(Config, extra="allow"):
    """The content of a corrector's ``config.json``.

    Attributes:
        format: of the file.
        kind: ``refiner``.
        settings: how it was built, trained and is applied.
        geometry: name of the mesh.
        conditions: what they were in the training.
        threshold: MeV; voxels below it are 0 before and after.
        voxel_scaling: name of the coding of voxels.
        fast: the fast simulation's file and its checksum.
        files: checksums of the other files.
    """

    format: Literal[1]
    kind: Literal["refiner"]
    settings: RefinerConfig
    geometry: str
    conditions: DomainTable
    threshold: float = Field(gt=0, lt=1e15)
    voxel_scaling: str
    fast: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class TrainedRefiner:
    """A corrector and what it is for.

    Attributes:
        network: the networks.
        record: content of its ``config.json``.
        geometry: the mesh.
        weights: file of its weights, for provenance.
    """

    network: Refiner
    record: RefinerRecord
    geometry: Geometry
    weights: Path


def save_refiner(
    output: Path,
    refiner: Refiner,
    prepared: Prepared,
    *,
    fast: Mapping[str, str],
    record: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write the folder, atomically.

    Args:
        output: the folder.
        refiner: with the weights to keep.
        prepared: the full simulation that it was trained towards.
        fast: file and checksum of the fast simulation.
        record: of the training.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the folder may not be written.
        GeneratorFailed: a weight is not finite.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in own_state(refiner).items()}
    if wrong := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise GeneratorFailed(
            f"the training went wrong: {wrong[0]} has a number that is not finite; lower the learning rate"
        )
    with result_folder(output, REFINER, inputs=[prepared.path], overwrite=overwrite) as folder:
        save_file(weights, folder / _WEIGHTS)
        (folder / _TRANSFORM).write_bytes((prepared.path / _TRANSFORM).read_bytes())
        write_geometry(prepared.geometry, folder)
        write_json(folder / "training.json", record)
        content = {
            "format": FORMAT,
            "kind": REFINER.name,
            "settings": refiner.config.model_dump(mode="json"),
            "geometry": prepared.geometry.name,
            "conditions": as_dict(prepared.domains),
            "threshold": prepared.threshold,
            "voxel_scaling": prepared.record["settings"]["voxel_scaling"],
            "fast": dict(fast),
        }
        seal_bundle(folder, content)


def load_refiner(path: Path, *, device: str = "cpu") -> TrainedRefiner:
    """Read a corrector; only data is read, no code is run.

    Raises:
        InputError: not such a folder, of an unknown format, or a file is missing or altered.
    """
    where = path / "config.json"
    if not where.is_file():
        raise InputError(
            f"{path}: not a folder of a refiner (config.json is missing); train one with caloforge refine --full"
        )
    content = read_json(where)
    if not isinstance(content, dict) or content.get("kind") != REFINER.name or content.get("format") != FORMAT:
        raise InputError(f"{where}: not a refiner of format {FORMAT}; train it again with this version")
    record = RefinerRecord.parse(content, where=str(where))
    for name in (_WEIGHTS, _TRANSFORM):
        if name not in record.files:
            raise InputError(f"{path}: the file {name} is missing; copy the whole folder again")
    for name, digest in record.files.items():
        if name not in REFINER.files:
            raise InputError(f"{where}: files: {name!r} is no file of a refiner ({', '.join(REFINER.files)})")
        file = inside(path, name, where=str(where))
        if not file.is_file() or file.is_symlink() or sha256(file) != digest:
            raise InputError(f"{file}: missing, or not what was saved (SHA-256); copy the whole folder again")
    geometry = stored_geometry(path, name=record.geometry)
    codings = load_transforms(path, geometry, record.voxel_scaling)
    network = Refiner(record.settings, DataSpec(geometry, record.conditions.domains, record.threshold, codings))
    state = read_weights(path / _WEIGHTS)
    if set(own_state(network)) != set(state):
        raise InputError(f"{path}: weights do not fit the configuration; the folder was put together from two")
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise GeneratorFailed(f"{path}: {wrong[0]} has a number that is not finite; train it again")
    fill(network, state, where=path / _WEIGHTS, strict=False)
    return TrainedRefiner(network.eval().requires_grad_(False).to(device), record, geometry, path / _WEIGHTS)
