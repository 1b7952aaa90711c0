"""Remove what earlier starts of a run left in its folder of steps: those that were killed, and those that did nothing."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

_START = "*-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9]*"
"""Name of the folder that kfp.local makes at each start."""


def remove_leftovers(steps: Path) -> None:
    """Remove the folders of steps that did not come to their end, and of starts that have no others.

    What is kept is what the cache of kfp.local refers to: a later start takes it from there. To be called while no
    run is going on in the folder.

    Args:
        steps: folder of the steps of a run on this machine.
    """
    cache = steps / "cache"
    for unfinished in cache.glob(".kfp_cache_*.tmp"):
        unfinished.unlink()
    used = {Path(address).parent.resolve() for entry in cache.glob("*.json") for address in _addresses(_read(entry))}
    above = {folder for one in used for folder in one.parents}
    for start in steps.resolve().glob(_START):
        _remove_unused(start, used, above)


def _remove_unused(folder: Path, used: set[Path], above: set[Path]) -> None:
    """Remove a folder unless it is of a step that is used, or above one: then what is beside that goes."""
    if folder.is_symlink() or not folder.is_dir() or folder in used:
        return
    if folder not in above:
        shutil.rmtree(folder)
        return
    for one in folder.iterdir():
        _remove_unused(one, used, above)


def _read(entry: Path) -> Any:
    with suppress(OSError, ValueError):  # it is none, then, for kfp either
        return json.loads(entry.read_text(encoding="utf-8"))
    return None


def _addresses(value: Any) -> Iterator[str]:
    """Yield where the artifacts of an entry are."""
    if isinstance(value, dict):
        if isinstance(value.get("uri"), str):
            yield value["uri"]
        for one in value.values():
            yield from _addresses(one)
    elif isinstance(value, list):
        for one in value:
            yield from _addresses(one)
