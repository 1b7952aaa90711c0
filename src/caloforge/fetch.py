"""Bring a file or folder from wherever it is to this machine: object stores, web servers, mounted disks."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from caloforge.errors import InputError
from caloforge.files import atomic_directory, atomic_file, read_json, sha256, write_json

logger = logging.getLogger(__name__)

FETCH_CACHE = "CALOFORGE_FETCH_CACHE"
"""Environment variable: folder in which fetched files are kept for all steps of all runs."""

ATTEMPTS = 3
PAUSE_SECONDS = 2.0

_MODULES = {"s3": "pip install 'caloforge[s3]'", "gs": "pip install gcsfs", "gcs": "pip install gcsfs"}
"""What is missing when the library of a scheme is not there."""

_MARKS = ("size", "ETag", "LastModified", "etag", "mtime", "updated")
"""Some of these tell whether what is at an address has changed."""


def is_remote(address: str) -> bool:
    """Return whether an address is to be fetched; a path is not."""
    return "://" in address and not address.startswith("file://")


def local_copy(address: str, folder: Path, *, checksum: str = "") -> Path:
    """Return the path of what an address names, fetched into a folder if it is elsewhere.

    What an earlier call left in the folder is used again unless the source has changed since.

    Args:
        address: a path, or an address of any scheme that fsspec knows: ``s3://``, ``minio://`` (as
            Kubeflow Pipelines writes it), ``https://``, ``gs://``. Credentials and the endpoint of
            an object store come from the environment: ``AWS_ACCESS_KEY_ID``,
            ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL`` (or ``S3_ENDPOINT``, as KServe has it).
        folder: where a fetched file or folder is put, whole or not at all.
        checksum: SHA-256 of the file; empty: not checked.

    Raises:
        InputError: nothing is there, it cannot be reached or read, its checksum is another, or the
            library of the scheme is not installed.
    """
    if not is_remote(address):
        path = Path(address.removeprefix("file://"))
        _check(path, address, checksum)
        return path
    shown = without_secrets(address)
    name = PurePosixPath(urlsplit(address).path).name
    if not name:
        raise InputError(f"{shown}: names no file or folder")
    target = folder / name
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(address, target, folder / f".{name}.source.json", checksum)
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f"{shown}: nothing is there") from None
        except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
            if final := _final(error, address, shown):
                raise final from None
            reason = _reason(error, address, shown)
            if attempt == ATTEMPTS or type(error).__name__ == "NoCredentialsError":
                raise InputError(f"{shown}: cannot be fetched ({reason})") from None
            logger.warning("%s: %s; trying again", shown, reason)
            time.sleep(PAUSE_SECONDS * attempt)
        else:
            break
    return target


def files_under(address: str) -> dict[str, str]:
    """Return the files under a folder of an object store or of this machine: path below it to address, oldest first.

    Raises:
        InputError: it cannot be listed, or the library of the scheme is not installed.
    """
    address = address.rstrip("/")
    shown = without_secrets(address) if is_remote(address) else address
    try:
        filesystem, path = _open(address)
        found = filesystem.find(path, detail=True)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
        raise _final(error, address, shown) or InputError(
            f"{shown}: cannot be listed ({_reason(error, address, shown)})"
        ) from None
    ages = {one: str(info.get("LastModified") or info.get("mtime") or "") for one, info in found.items()}
    below = [one.removeprefix(path.rstrip("/") + "/") for one in sorted(found, key=lambda one: (ages[one], one))]
    return {one: f"{address}/{one}" for one in below}


def without_secrets(address: str) -> str:
    """Return an address as it may be shown: without a password, and without a signature."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _final(error: Exception, address: str, shown: str) -> InputError | None:
    """Return what to tell the user of an error that another attempt would meet too."""
    if isinstance(error, PermissionError):
        return InputError(f"{shown}: access is denied; are the store's keys in the environment?")
    if isinstance(error, ImportError):
        scheme = urlsplit(address).scheme
        return InputError(f"{shown}: needs a library: {_MODULES.get(scheme, f'one for {scheme}://')}")
    return None


def _reason(error: Exception, address: str, shown: str) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).replace(address, shown)


def _fetch(address: str, target: Path, record: Path, checksum: str) -> None:
    filesystem, path = _open(address)
    if filesystem.isdir(path):
        with atomic_directory(target) as temporary:
            filesystem.get(path.rstrip("/") + "/", str(temporary), recursive=True)
        return
    found = filesystem.info(path)
    source = {"address": without_secrets(address), **{key: str(found[key]) for key in _MARKS if key in found}}
    if target.is_file() and record.is_file() and read_json(record) == source:
        _check(target, address, checksum)
        return
    logger.info("fetching %s%s", source["address"], _size(found))
    start = time.monotonic()
    with atomic_file(target) as temporary:
        filesystem.get_file(path, str(temporary))
        size = temporary.stat().st_size
        if found.get("size") is not None and size != found["size"]:
            raise OSError(f"the connection ended after {size} of {found['size']} bytes")
        _check(temporary, address, checksum)
    write_json(record, source)
    logger.info("fetched %s in %.1f s", target.name, time.monotonic() - start)


def _open(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path on it."""
    from fsspec.core import url_to_fs

    scheme, _, rest = address.partition("://")
    endpoint = _endpoint()
    if scheme == "minio" and endpoint is None:
        text = (
            f"{without_secrets(address)}: where is the store? Set AWS_ENDPOINT_URL "
            "(http://minio-service.kubeflow:9000 on a stock Kubeflow)"
        )
        raise InputError(text)
    if scheme in ("minio", "s3"):
        options = {} if endpoint is None else {"endpoint_url": endpoint}
        filesystem, path = url_to_fs(f"s3://{rest}", **options)
    else:
        try:
            filesystem, path = url_to_fs(address)
        except ValueError as error:  # the scheme is unknown
            raise InputError(f"{without_secrets(address)}: {error}; use a path, s3://, https:// or gs://") from None
    return filesystem, path


def _endpoint() -> str | None:
    """Return the address of the S3 store, None for Amazon's own."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if value := os.environ.get(name):
            return value
    if host := os.environ.get("S3_ENDPOINT"):
        scheme = "http" if os.environ.get("S3_USE_HTTPS", "1") in ("0", "false") else "https"
        return host if "://" in host else f"{scheme}://{host}"
    return None


def _check(path: Path, address: str, checksum: str) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if checksum and (actual := sha256(path)) != checksum:
        shown = without_secrets(address) if is_remote(address) else address
        raise InputError(f"{shown}: its SHA-256 is {actual}, not {checksum}")


def _size(info: dict[str, Any]) -> str:
    return f" ({info['size'] / 1e6:.1f} MB)" if info.get("size") else ""
