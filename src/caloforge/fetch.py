"""Bring a file or folder from wherever it is to this machine: object stores, web servers, mounted disks."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from caloforge.download import Downloaded, download, look_patiently
from caloforge.errors import InputError
from caloforge.fetch_cache import FETCH_CACHE, FetchCache, cache_of_environment, check_space, key_of
from caloforge.files import atomic_directory, atomic_file, read_json, sha256, write_json
from caloforge.names import inside
from caloforge.network import check_address
from caloforge.patience import PATIENCE_SECONDS
from caloforge.secrets import without_secrets
from caloforge.source import Source
from caloforge.space import NoSpace
from caloforge.store import Away, Found, Store, Unreachable

__all__ = [
    "FETCH_CACHE", "Fetched", "Found", "Unreachable", "fetch", "files_under", "is_remote", "local_copy", "look", "paths_of",
]  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A file or folder of this machine, and where it came from."""

    path: Path
    source: Source


def is_remote(address: str) -> bool:
    """Return whether an address is to be fetched; a path is not."""
    return "://" in address and not address.startswith("file://")


def paths_of(*addresses: str | Path | None) -> list[Path]:
    """Return the paths of those that are on this machine; what has to be fetched cannot be written over."""
    given = [str(address) for address in addresses if address is not None]
    return [_path(address) for address in given if address.strip() and not is_remote(address)]


def local_copy(address: str, folder: Path, *, checksum: str = "") -> Path:
    """Return the path of what an address names; the short form of :func:`fetch`."""
    return fetch(address, folder, checksum=checksum).path


def fetch(address: str, folder: Path, *, checksum: str = "", patience: float = PATIENCE_SECONDS) -> Fetched:
    """Return the path of what an address names, fetched if it is elsewhere, and where it came from.

    What an earlier call left in the folder is used again unless the source has changed since. With
    ``CALOFORGE_FETCH_CACHE`` in the environment files are kept there instead, by checksum, see
    :mod:`caloforge.fetch_cache`; such a file is not to be written to.

    Args:
        address: a path, ``file://``, ``s3://``, ``minio://`` (as Kubeflow Pipelines writes it),
            ``https://``, ``http://``, ``gs://``, or what else fsspec knows. Keys and endpoint of an
            object store come from the environment: ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
            ``AWS_ENDPOINT_URL`` (or ``S3_ENDPOINT``, as KServe has it); a region is needed only
            where the store asks for one (``AWS_REGION``).
        folder: where a fetched file or folder is put, whole or not at all.
        checksum: SHA-256 of the file; empty: not checked.
        patience: seconds that a store which is away is waited for.

    Raises:
        InputError: nothing is there, it may not be read, its checksum is another, it is called HDF5
            and is not, the folder cannot be written, or the library of the scheme is not installed.
        Unreachable: the store was away for longer.
        NoSpace: the disk is full.
    """
    if not is_remote(address):
        return _on_this_machine(address, checksum)
    shown = without_secrets(address)
    path = shown.partition("://")[2].partition("/")[2]
    name = PurePosixPath(unquote(path) if address.lower().startswith("http") else path).name
    if name in ("", "..", ".content", ".record.json"):
        raise InputError(f"{shown}: names no file or folder")
    with closing(_store(address)) as store:
        return _from_elsewhere(store, address, folder, name, checksum, patience)


def look(address: str) -> Found:
    """Say what is at an address; nothing is downloaded and nothing is waited for.

    Raises:
        InputError: nothing is there, it may not be read, or it does not answer.
    """
    if not is_remote(address):
        path = _path(address)
        if not path.exists():
            raise InputError(f"{path}: no such file")
        state = path.stat()
        marks = {"mtime": str(state.st_mtime_ns)}
        return Found(address, None if path.is_dir() else state.st_size, marks, folder=path.is_dir())
    with closing(_store(address)) as store:
        try:
            return store.look()
        except InputError:
            raise
        except Away as error:
            raise Unreachable(f"{store.shown}: does not answer ({error})") from None


def _from_elsewhere(store: Store, address: str, folder: Path, name: str, checksum: str, patience: float) -> Fetched:
    found = None
    if (cache := cache_of_environment()) is not None:
        try:
            if checksum and (path := cache.by_checksum(checksum, name)) is not None:
                logger.info("%s: SHA-256 %s is in the cache, %s", store.shown, checksum[:12], path)
                return Fetched(path, Source(store.shown, path.stat().st_size, checksum, _now()))
            found = look_patiently(store, patience)
            key = key_of(address, found)
            if not found.folder:
                return _through_cache(cache, store, found, key, name, checksum, patience)
        except (OSError, NoSpace) as error:
            logger.warning("%s cannot be used (%s); fetching without it", FETCH_CACHE, error)
    found = found or look_patiently(store, patience)
    try:
        return _into(folder, store, found, address, name, checksum, patience)
    except OSError as error:
        raise InputError(f"{folder}: cannot write {name} here ({error.strerror})") from None


def files_under(address: str) -> dict[str, str]:
    """Return the files under a folder of an object store or of this machine: path below it to address, oldest first.

    Raises:
        InputError: it cannot be listed, or the library of the scheme is not installed.
    """
    address = address.rstrip("/")
    if not is_remote(address):
        top = _path(address)
        found = sorted((path for path in top.rglob("*") if path.is_file()), key=lambda one: one.stat().st_mtime)
        return {str(path.relative_to(top)): str(path) for path in found}
    with closing(_store(address)) as store:
        try:
            return {path: f"{store.shown.rstrip('/')}/{path}" for path in store.files()}
        except InputError:
            raise
        except Away as error:
            raise Unreachable(f"{store.shown}: cannot be listed ({error})") from None


def _store(address: str) -> Store:
    scheme = address.partition("://")[0].lower()
    if scheme in ("s3", "minio"):
        from caloforge.store_s3 import S3Store

        return S3Store(address)
    if scheme in ("http", "https"):
        check_address(address)
        from caloforge.store_web import WebStore

        return WebStore(address)
    from caloforge.store_fsspec import FsspecStore

    return FsspecStore(address)


def _is_utf8(text: str) -> bool:
    """Return whether a text of the command line was UTF-8: Python has surrogates in the place of other bytes."""
    return not any("\ud800" <= one <= "\udfff" for one in text)


def _path(address: str) -> Path:
    """Return the path of an address of this machine; a space may be written as it is or as %20."""
    if not address.strip():  # as a path it would be the current folder
        raise _nowhere()
    if not _is_utf8(address):  # it goes into records and reports
        raise InputError(f"{address!a}: the name is not UTF-8; give the file another name")
    if not address.startswith("file://"):
        return Path(address)
    plain = address.removeprefix("file://").removeprefix(
        "localhost/" if address.startswith("file://localhost/") else ""
    )
    path = Path("/" + plain if address.startswith("file://localhost/") else plain)
    if not plain:
        raise _nowhere()
    return path if path.exists() else Path(unquote(str(path)))


def _nowhere() -> InputError:
    return InputError("the address is empty; give a path, s3://, https:// or gs:// (a pipeline's parameter: data)")


def _on_this_machine(address: str, checksum: str) -> Fetched:
    path = _path(address)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if checksum and (actual := sha256(path)) != checksum:
        raise InputError(f"{address}: its SHA-256 is {actual}, not {checksum}")
    size = (
        path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
    )
    return Fetched(path, Source(address, size, checksum, _now()))


def _through_cache(
    cache: FetchCache, store: Store, found: Found, key: str | None, name: str, checksum: str, patience: float
) -> Fetched:
    # Without marks of the source only the content tells, and nobody can wait for another.
    lock = key or hashlib.sha256(f"{store.shown} {time.time_ns()}".encode()).hexdigest()[:32]
    with cache.alone(lock, store.shown, patience=patience):
        if key is not None and (known := cache.known(found, key, name)) is not None:
            path, record = known
            if checksum and record["sha256"] != checksum:
                raise InputError(f"{store.shown}: its SHA-256 is {record['sha256']}, not {checksum}")
            logger.info("%s: is in the cache, %s", store.shown, path)
            return Fetched(path, Source.of(record))
        got = cache.fetch(store, found, lock, checksum=checksum, patience=patience)
        source = _source(store, got)
        if key is not None and got.found == found:
            cache.note(key, {**source.as_dict(), "marks": dict(found.marks)})
        path_or_none = cache.by_checksum(got.sha256, name)
    if path_or_none is None:
        raise OSError(None, "what was written is not there", str(cache.folder))
    return Fetched(path_or_none, source)


def _into(folder: Path, store: Store, found: Found, address: str, name: str, checksum: str, patience: float) -> Fetched:
    target = folder / name
    if found.folder:
        start, size = time.monotonic(), 0
        with atomic_directory(target) as temporary:
            for below in store.files():
                file = inside(temporary, below, where=store.shown)
                file.parent.mkdir(parents=True, exist_ok=True)
                one = store.at(below)
                size += download(one, look_patiently(one, patience), file, patience=patience).size
        return Fetched(target, Source(store.shown, size, "", _now(), time.monotonic() - start))
    record = folder / f".{name}.source.json"
    key = key_of(address, found)
    if key is not None and target.is_file() and record.is_file():
        known = read_json(record)
        if known.get("key") == key and known.get("size") == target.stat().st_size:
            if checksum and (actual := sha256(target)) != checksum:
                raise InputError(f"{store.shown}: its SHA-256 is {actual}, not {checksum}")
            return Fetched(target, Source.of(known))
    with atomic_file(target) as temporary:
        check_space(folder, found)
        got = download(store, found, temporary, patience=patience)
        if checksum and got.sha256 != checksum:
            raise InputError(f"{store.shown}: its SHA-256 is {got.sha256}, not {checksum}")
    source = _source(store, got)
    write_json(record, {**source.as_dict(), "key": key_of(address, got.found)})
    return Fetched(target, source)


def _source(store: Store, got: Downloaded) -> Source:
    return Source(store.shown, got.size, got.sha256, _now(), round(got.seconds, 3))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
