"""Which reader takes a source, and several sources as one stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path

from caloforge.errors import InputError
from caloforge.fetch import is_remote
from caloforge.preprocessing.readers.layout import layout_of
from caloforge.preprocessing.readers.reader import ShowerStream
from caloforge.preprocessing.readers.root_mapping import MAPPINGS
from caloforge.preprocessing.registries import READERS
from caloforge.showers import Conditions, VoxelArray
from caloforge.yaml_file import read_yaml

logger = logging.getLogger(__name__)


def open_sources(
    sources: Sequence[Path], *, form: str | None = None, geometry: str | None = None, particle: str | None = None
) -> tuple[str, ShowerStream]:
    """Return the name of the format of some sources, and their showers as one stream, in the order given.

    Args:
        sources: files, or folders of them, of one format; the files of a folder are taken in the order of their names.
        form: name of the format; None: the one whose reader recognises the sources.
        geometry: the mesh, by name or as a binning XML; None: the sources' own.
        particle: which one, where the binning XML has several.

    Raises:
        InputError: no format or several fit, the sources have different ones, or do not belong together.
    """
    if form is not None:
        READERS.check(form)
    found = [one for source in sources for one in _found(source, form)]
    if not found:
        raise InputError("no shower file is given")
    first, name = found[0]
    for path, other in found:
        if other != name:
            raise InputError(f"{path}: is {other}, but {first} is {name}; convert them one after the other")
    reader = READERS.get(name)
    streams = [reader.open(path, geometry, particle) for path, _ in found]
    return name, join(streams) if len(streams) > 1 else streams[0]


def expanded(address: str) -> list[str]:
    """Return the files that a pattern means, in the order of their names; what is no pattern of paths is itself.

    Raises:
        InputError: nothing is called so.
    """
    if is_remote(address) or not has_magic(address) or Path(address).exists():
        return [address]
    if found := sorted(glob(address, recursive=True)):  # noqa: PTH207 - of absolute patterns too
        return found
    raise InputError(f"{address}: no file is called so")


def formats_of(path: Path) -> list[str]:
    """Return the names of the formats that a file or folder may be of."""
    return _formats(path, None)


def is_root(path: Path) -> bool:
    """Return whether a file is one of ROOT."""
    with path.open("rb") as file:
        return file.read(4) == b"root"


def _found(source: Path, form: str | None) -> list[tuple[Path, str]]:
    """Return what there is to read of a source, and the format of each."""
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    fitting = _formats(source, form)
    if not fitting and source.is_dir():
        inside = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
        known = [(path, _one(path, formats)) for path in inside if (formats := _formats(path, form))]
        below = _below(source)
        taken = {path for path, _ in known}
        if left := [path.name for path in inside if path not in taken]:
            logger.info("%s: left out, of no known format: %s", source, ", ".join(left))
        if known:
            if below:
                logger.info("%s: %s", source, below)
            return known
        if below:
            raise InputError(f"{source}: holds no shower file itself; {below}")
    if not fitting and source.suffix.lower() in MAPPINGS and source.is_file():
        read_yaml(source)  # a mapping that is no YAML is told as that
    if not fitting and (form is None or source.is_dir()):
        fits = f"it is not {form}" if form else "no reader takes that"
        raise InputError(f"{source}: holds {_described(source)}; {fits} (readers: {', '.join(READERS)})")
    return [(source, form or _one(source, fitting))]


def _below(source: Path) -> str:
    """Say that the files below a folder's folders are not taken, and how they are; empty: there are none."""
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    for folder in folders:
        if (file := next((path for path in sorted(folder.rglob("*")) if path.is_file()), None)) is not None:
            pattern = source / "**" / f"*{file.suffix}"
            return f"folders in it are not looked into ({_few([path.name for path in folders])}); give '{pattern}' for those"
    return ""


def _formats(path: Path, form: str | None) -> list[str]:
    return [name for name in ([form] if form else READERS) if READERS.get(name).recognises(path)]


def _one(path: Path, formats: Sequence[str]) -> str:
    if len(formats) > 1:
        raise InputError(f"{path}: may be {' or '.join(formats)} ({_described(path)}); say which with --format")
    return formats[0]


def _described(source: Path) -> str:
    """Say in a few words what a file or folder holds."""
    if source.is_dir():
        names = sorted(path.name for path in source.iterdir() if not path.name.startswith("."))
        return _few(names) or "nothing"
    if not source.stat().st_size:
        return "nothing"
    shapes = layout_of(source)
    if shapes:
        return f"the datasets {_few([f'{name} {shape}' for name, shape in shapes.items()])}"
    if is_root(source):
        text = "a ROOT file, which says neither its units nor where its channels are"
        return f"{text} (write a mapping, docs/formats.md, and give that in its place)"
    with source.open("rb") as file:
        return f"no HDF5 datasets (it begins with {file.read(12)!r})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def join(streams: Sequence[ShowerStream]) -> ShowerStream:
    """Return several streams as one.

    Raises:
        InputError: their geometries or conditions differ.
    """
    first = streams[0]
    for one in streams[1:]:
        if said := first.geometry.difference(one.geometry):
            raise InputError(f"{one.files[0]}: its geometry is not that of {first.files[0]}: {said}")
        if one.conditions != first.conditions:
            text = f"its conditions are {', '.join(one.conditions)}, but those of {first.files[0]}"
            raise InputError(f"{one.files[0]}: {text} {', '.join(first.conditions)}")
    threshold = first.threshold
    if any(one.threshold != threshold for one in streams):
        said = ", ".join(f"{one.files[0].name}: {one.threshold or 'none'}" for one in streams)
        logger.warning("the sources say different energy thresholds in MeV (%s); none is taken on", said)
        threshold = None
    common = {
        key: value
        for key, value in first.attributes.items()
        if all(key in one.attributes and one.attributes[key] == value for one in streams)
    }

    def read() -> Iterator[tuple[Conditions, VoxelArray]]:
        for one in streams:
            yield from one.pairs()

    return replace(
        first,
        files=tuple(file for one in streams for file in one.files),
        count=sum(map(len, streams)),
        read=read,
        threshold=threshold,
        attributes=common,
    )
