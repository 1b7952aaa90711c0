"""The data of trials: fetched and prepared once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge.fetch import local_copy
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.prepared import load_prepared
from caloforge.showers import open_showers


def local_data(
    showers: str | Path,
    prepared: str | Path | None,
    output: Path,
    *,
    geometry: str | None,
    particle: str | None,
    seed: int,
) -> dict[str, Path]:
    """Fetch and prepare the showers once for all trials, and return the options of a trial that name them."""
    data = local_copy(str(showers), output / "data")
    if prepared is None:
        folder = prepare_once(data, output / "prepared", geometry=geometry, particle=particle, seed=seed)
    else:
        folder = local_copy(str(prepared), output / "data")
        load_prepared(folder)  # what is wrong with it is wrong for every trial
    return {"data": data.absolute(), "prepared": folder.absolute()}


def prepare_once(
    showers: Path, prepared: Path, *, geometry: str | None, seed: int, particle: str | None = None
) -> Path:
    """Prepare a shower file unless that was done in an earlier run, and return the folder."""
    if not prepared.exists():
        prepare(open_showers(showers, geometry, particle=particle), prepared, seed=seed)
    load_prepared(prepared)
    return prepared


def prepare_changed(showers: Path, prepared: Path, output: Path, *, changes: Mapping[str, Any]) -> Path:
    """Prepare a shower file with other settings, unless that was done in an earlier run, and return the folder.

    It is that of the prepared data where nothing is changed. The same showers are held out, so that what is trained on either is judged alike.

    Args:
        showers: the file.
        prepared: folder of the prepared data whose settings are changed.
        output: folder to write.
        changes: settings of :class:`caloforge.preprocessing.prepare.PrepareSettings`.
    """
    held_out = load_prepared(prepared)
    settings = PrepareSettings.parse({**held_out.record["settings"], **changes}, where="preprocessing")
    if settings.model_dump() == held_out.record["settings"]:
        return prepared
    if not output.exists():
        seed = held_out.record["provenance"]["seed"] or 0
        prepare(open_showers(showers, held_out.geometry), output, settings=settings, seed=seed, held_out=held_out)
    return output
