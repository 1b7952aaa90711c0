"""HDF5 files of others: opened and read with one line for each thing that can be wrong with them.

HDF5 fills what it does not find with zeros (the source of a virtual dataset, the end of an external file, chunks that
were never written), and h5py reports the rest as OSError, RuntimeError, KeyError, ValueError or TypeError.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloforge.errors import InputError
from caloforge.memory import memory_limit

MOST_COMPRESSION = 10_000
"""A dataset so many times larger than what is stored of it was never filled."""

_COPIES = 4
"""So often a chunk is in memory while it is read: as stored, decompressed, in the order of its bytes, as float32."""

_MOST_JOINED = 8
"""Virtual datasets in each other."""

_FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError)


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn what h5py raises within the block into one line.

    Args:
        path: the file.
        what: dataset or attribute that is read.

    Raises:
        InputError: it cannot be read.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: {what}: larger than the memory of this machine") from None
    except _FAULTS as error:
        raise InputError(f"{path}: {what}: cannot be read ({_said(error)}); is the file whole? copy it again") from None


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        InputError: it is missing, locked by another process, not HDF5, or cut off.
    """
    if not path.is_file():
        raise InputError(f"{path}: {'not a regular file' if path.exists() else 'no such file'}")
    try:
        file = h5py.File(path)
    except PermissionError:
        raise InputError(f"{path}: may not be read (permission denied)") from None
    except _FAULTS as error:
        said = _said(error)
        if isinstance(error, BlockingIOError) or "unable to lock file" in said:
            text = "another process has it open for writing; wait for its end, or set HDF5_USE_FILE_LOCKING=FALSE"
        elif "already open for write" in said or "consistency flags" in said:
            text = "its writer did not close it; if that has ended, `h5clear -s` makes the file readable"
        elif "truncated file" in said:
            text = f"cut off ({said}); copy it again"
        else:
            text = f"not an HDF5 file, or damaged ({said})"
        raise InputError(f"{path}: {text}") from None
    with file:
        yield file


def names_in(file: h5py.File) -> list[str]:
    """Return what is at the top of a file, by name; a name that is no text, as damage makes them, is left out."""
    try:
        return sorted(name for name in file if isinstance(name, str))
    except _FAULTS:
        return []


def find_dataset(
    path: Path, file: h5py.File, name: str, *, fields: tuple[str, ...] = (), joined: tuple[tuple[int, int], ...] = ()
) -> h5py.Dataset | None:
    """Return a dataset of numbers, complete as far as can be seen without reading it; None if it is not there.

    Args:
        path: the file, for messages.
        file: it, open.
        name: of the dataset.
        fields: of a compound dataset, those that must be there; none: it must be no compound.
        joined: numbers of the file and of the object of the virtual datasets that it is a source of.

    Raises:
        InputError: it is something else, holds no numbers, or what it consists of is missing.
    """
    with reading(path, name):
        link = file.get(name, getlink=True)
        if link is None:
            return None
        try:
            found = file[name]
        except KeyError:
            if isinstance(link, h5py.ExternalLink):
                text = f"is a link to {link.path} of {link.filename}, which is not there; put that file beside this one"
                raise InputError(f"{path}: {name}: {text}") from None
            if isinstance(link, h5py.SoftLink):
                raise InputError(f"{path}: {name}: is a link to {link.path}, which is not there") from None
            raise
        if not isinstance(found, h5py.Dataset):
            raise InputError(f"{path}: {name}: is a {type(found).__name__.lower()}, expected a dataset of numbers")
        if missing := [one for one in fields if one not in (found.dtype.names or ())]:
            here = ", ".join(found.dtype.names or ()) or _kind(found)
            raise InputError(f"{path}: {name}: has no field {missing[0]!r} (found: {here})")
        kinds = [found.dtype[one].base.kind for one in fields] or [found.dtype.kind]
        if found.shape is None or not set(kinds) <= set("iuf"):
            raise InputError(f"{path}: {name}: expected numbers, found {_kind(found)}")
        _check_filters(path, found, name)
        _check_complete(path, found, name, joined)
        _check_chunks(path, found, name)
        return found


def rows_at_a_time(dataset: h5py.Dataset, n_bytes: int) -> int:
    """Return how many rows of a dataset to read at a time, so that each of its chunks is decompressed once.

    Args:
        dataset: N rows.
        n_bytes: about how much of it may be in memory; where a chunk has more rows, up to eight times as much.
    """
    row: int = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    rows = max(1, n_bytes // max(1, row))
    of_chunk: int = dataset.chunks[0] if dataset.chunks else 1
    return -(-rows // of_chunk) * of_chunk if of_chunk <= 8 * rows else rows


def read_attributes(path: Path, file: h5py.File, *, needed: frozenset[str]) -> dict[str, Any]:
    """Return the attributes of a file as plain values; those that nobody needs and h5py cannot read are left out.

    Raises:
        InputError: one that is needed cannot be read.
    """
    found = {}
    with reading(path, "attributes"):
        names = list(file.attrs)
    for name in names:
        try:
            with reading(path, f"attribute {name}"):
                found[name] = _plain(file.attrs[name])
        except InputError:
            if name in needed:
                raise
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if isinstance(value, str):
        # h5py keeps bytes that are no UTF-8 as lone surrogates, which nothing can write.
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value


def _said(error: BaseException) -> str:
    return " ".join(str(error).strip("'\"").split())[:300] or type(error).__name__


def _kind(dataset: h5py.Dataset) -> str:
    if dataset.shape is None:
        return "nothing"
    kinds = {"S": "texts", "O": "texts or references", "U": "texts", "V": "compound values", "b": "truth values"}
    return kinds.get(dataset.dtype.kind, f"values of type {dataset.dtype}")


def _check_filters(path: Path, dataset: h5py.Dataset, name: str) -> None:
    created = dataset.id.get_create_plist()
    for number in range(created.get_nfilters()):
        code, _, _, label = created.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            called = label.decode(errors="replace") or f"number {code}"
            text = f"compressed with the filter {called}, which is not installed; rewrite it with h5repack -f GZIP=4"
            raise InputError(f"{path}: {name}: {text}")


def _check_chunks(path: Path, dataset: h5py.Dataset, name: str) -> None:
    """Refuse what HDF5 could only take into memory as a whole, and what was never written."""
    if dataset.chunks is None or not dataset.size:
        return
    n_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if n_bytes * _COPIES > memory_limit():
        text = f"is stored in chunks of {n_bytes / 1e9:.1f} GB, for which there is not enough memory"
        raise InputError(f"{path}: {name}: {text}; rewrite it with h5repack -l {name}:CHUNK=..., some MB each")
    wanted = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    if 0 < (there := dataset.id.get_num_chunks()) < wanted:
        text = f"only {there} of its {wanted} chunks were written, the rest would be {dataset.fillvalue:g}"
        raise InputError(f"{path}: {name}: {text}; its writer was stopped")


def _check_complete(path: Path, dataset: h5py.Dataset, name: str, joined: tuple[tuple[int, int], ...]) -> None:
    """Refuse data that HDF5 would make up."""
    wanted = math.prod(dataset.shape)
    if dataset.is_virtual:
        _check_sources(path, dataset, name, wanted, joined)
    elif dataset.external:
        for file, offset, size in dataset.external:
            outside = path.parent / file
            if not outside.is_file():
                raise InputError(f"{path}: {name}: its data are in {file}, which is not there")
            held = max(0, outside.stat().st_size - offset)
            if held < min(size, wanted * dataset.dtype.itemsize):
                raise InputError(f"{path}: {name}: its data are in {file}, which is cut off ({held} bytes)")
    elif wanted:
        stored = dataset.id.get_storage_size()
        if dataset.id.get_space_status() == h5py.h5d.SPACE_STATUS_NOT_ALLOCATED or not stored:
            raise InputError(f"{path}: {name}: was made and never filled; its writer was stopped")
        if wanted * dataset.dtype.itemsize > MOST_COMPRESSION * stored:
            text = f"says that it is {' x '.join(map(str, dataset.shape))} numbers, but {stored} bytes are stored"
            raise InputError(f"{path}: {name}: {text}; its writer was stopped, or it is damaged")


def _check_sources(
    path: Path, dataset: h5py.Dataset, name: str, wanted: int, joined: tuple[tuple[int, int], ...]
) -> None:
    """Refuse a virtual dataset with a hole, or one that is a source of itself: HDF5 would crash of that."""
    found = h5py.h5o.get_info(dataset.id)
    here = (int(found.fileno), int(found.addr))
    if here in joined or len(joined) > _MOST_JOINED:
        raise InputError(f"{path}: {name}: is joined from {'itself' if here in joined else 'too many others in turn'}")
    covered = 0
    for source in dataset.virtual_sources():
        endless = "%b" in source.file_name or "%b" in source.dset_name  # as many blocks as there are files
        block, left = 0, len(dataset)
        while block == 0 or (endless and left > 0):
            named, of = (
                one.replace("%b", str(block)).replace("%%", "%") for one in (source.file_name, source.dset_name)
            )
            file = path if named == "." else path.parent / named
            if not file.is_file():
                raise InputError(f"{path}: {name}: is joined from other files, and {file} of them is not there")
            with open_hdf5(file) as opened:
                part = find_dataset(file, opened, of.lstrip("/"), joined=(*joined, here))
                if part is None:
                    raise InputError(f"{path}: {name}: is joined from others, and {file} has no {of}")
                left -= max(1, part.shape[0] if part.shape else 1)
            block += 1
        covered += wanted if endless else source.vspace.get_select_npoints()
    if covered < wanted:
        raise InputError(f"{path}: {name}: only {covered} of its {wanted} numbers have a source; the rest would be 0")
