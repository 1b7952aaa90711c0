"""Trained layer energies as an artifact of their own: one folder that all families can stand on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from caloforge.domain import as_dict
from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.outputs import result_folder
from caloforge.preprocessing.prepared import Prepared
from caloforge.result_kinds import ENERGIES

FORMAT = 3
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class EnergiesModel:
    """Weights of :class:`caloforge.models.layer_energies.LayerEnergies`, and what they were trained on.

    Attributes:
        path: the folder.
        config: content of its ``config.json``.
        state: name to weights.
        sha256: checksum of the weights, as bundles that stand on them name it.
    """

    path: Path
    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    sha256: str

    def check_fits(self, prepared: Prepared) -> None:
        """Refuse data other than those it was trained on.

        Raises:
            InputError: mesh, conditions, energies or the fitted coding differ.
        """
        for name, value in _data_of(prepared).items():
            if self.config["data"].get(name) != value:
                raise InputError(
                    f"{self.path}: these layer energies were trained on other data than {prepared.path} "
                    f"({name.replace('_', ' ')} differs); train them on it with `caloforge train-energies`"
                )


def state_digest(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights, that of :data:`WEIGHTS` if they are saved alone."""
    return hashlib.sha256(_bytes(model)).hexdigest()


def save_energies(
    output: Path, model: nn.Module, prepared: Prepared, *, record: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write the folder, atomically.

    Args:
        output: the folder.
        model: with the weights to keep.
        prepared: the data it was trained on.
        record: of the training.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the folder may not be written.
    """
    with result_folder(output, ENERGIES, inputs=[prepared.path], overwrite=overwrite) as folder:
        (folder / WEIGHTS).write_bytes(_bytes(model))
        write_json(folder / "training.json", record)
        content = {
            "format": FORMAT,
            "kind": ENERGIES.name,
            "data": _data_of(prepared),
            "sha256": sha256(folder / WEIGHTS),
        }
        write_json(folder / "config.json", content)


def load_energies(path: Path) -> EnergiesModel:
    """Read such a folder; only data is read, no code is run.

    Raises:
        InputError: not such a folder, of an unknown format, or altered.
    """
    file = path / "config.json"
    if not file.is_file() or not (path / WEIGHTS).is_file():
        raise InputError(f"{path}: not a folder of trained layer energies; make one with `caloforge train-energies`")
    try:
        config = read_json(file)
    except json.JSONDecodeError:
        config = None
    if not isinstance(config, dict) or config.get("kind") != ENERGIES.name or config.get("format") != FORMAT:
        raise InputError(f"{file}: not layer energies of format {FORMAT}; train them again with this version")
    digest = sha256(path / WEIGHTS)
    if digest != config["sha256"]:
        raise InputError(f"{path / WEIGHTS}: differs from what was saved (SHA-256); copy the folder again")
    try:
        state = load((path / WEIGHTS).read_bytes())
    except SafetensorError as error:
        raise InputError(f"{path / WEIGHTS}: cannot be read ({error})") from None
    if wrong := [name for name, value in state.items() if not value.isfinite().all()]:
        raise InputError(f"{path / WEIGHTS}: {wrong[0]} holds a number that is not finite; train them again")
    return EnergiesModel(path, config, state, digest)


def _bytes(model: nn.Module) -> bytes:
    return save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})


def _data_of(prepared: Prepared) -> dict[str, Any]:
    """Return what decides whether the weights fit."""
    return {
        "geometry": prepared.geometry.to_text(),
        "conditions": as_dict(prepared.domains),
        "threshold": prepared.threshold,
        "transform": sha256(prepared.path / "transform.safetensors"),
    }
