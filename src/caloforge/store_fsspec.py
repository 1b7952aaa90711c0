"""Files of whatever else fsspec knows: gs:// and more, each with a library of its own."""

from __future__ import annotations

import socket
from collections.abc import Generator
from typing import Any
from urllib.parse import urlsplit

from caloforge.errors import InputError
from caloforge.network import causes, lasting_problem
from caloforge.patience import PASSING
from caloforge.secrets import masked, remember_address, without_secrets
from caloforge.store import Away, Found, explained

_LIBRARIES = {"gs": "pip install 'caloforge[gs]'", "gcs": "pip install 'caloforge[gs]'"}
_MARKS = ("size", "etag", "ETag", "md5Hash", "LastModified", "mtime", "updated")
_REQUEST_BYTES = 16 * 2**20
_PASSING_MODULES = ("aiohttp", "requests", "urllib3", "http")


class FsspecStore:
    """One file or folder of a file system that fsspec knows."""

    def __init__(self, address: str, filesystem: Any = None) -> None:
        from fsspec.core import url_to_fs

        self._address, self.shown = address, without_secrets(address)
        remember_address(address)
        scheme = urlsplit(address).scheme
        try:
            self._files, self._path = url_to_fs(address, skip_instance_cache=True)
        except ImportError:
            library = _LIBRARIES.get(scheme, f"one for {scheme}://")
            raise InputError(f"{self.shown}: needs a library: {library}") from None
        except ValueError as error:  # the scheme is unknown
            raise InputError(f"{self.shown}: {masked(str(error))}; use a path, s3://, https:// or gs://") from None
        except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
            raise self._explained(error) from None
        self._files = filesystem or self._files

    def look(self) -> Found:
        """Return what the file system says of it."""
        try:
            found = self._files.info(self._path)
        except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
            raise self._explained(error) from None
        if found.get("type") == "directory":
            return Found(self.shown, None, {}, folder=True)
        size = found.get("size")
        marks = {key: str(found[key]) for key in _MARKS if found.get(key) is not None}
        return Found(self.shown, None if size is None else int(size), marks)

    def read(self, found: Found, start: int) -> tuple[int, Generator[bytes, None, None]]:
        """Go on at ``start``."""
        try:
            file = self._files.open(self._path, "rb", block_size=_REQUEST_BYTES)
        except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
            raise self._explained(error) from None
        return start, self._blocks(file, start)

    def files(self) -> list[str]:
        """List all that lies below."""
        try:
            found = self._files.find(self._path, detail=True)
        except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
            raise self._explained(error) from None
        ages = {path: str(info.get("updated") or info.get("mtime") or "") for path, info in found.items()}
        top = self._path.rstrip("/") + "/"
        return [path.removeprefix(top) for path in sorted(found, key=lambda one: (ages[one], one))]

    def at(self, below: str) -> FsspecStore:
        """Return the file below this folder."""
        return FsspecStore(f"{self._address.rstrip('/')}/{below}", self._files)

    def close(self) -> None:
        """Do nothing: fsspec keeps its connections."""

    def _blocks(self, file: Any, start: int) -> Generator[bytes, None, None]:
        try:
            while True:
                try:
                    if start:
                        file.seek(start)
                        start = 0
                    block = file.read(_REQUEST_BYTES)
                except Exception as error:  # noqa: BLE001 - the library of each scheme has errors of its own
                    raise self._explained(error) from None
                if not block:
                    return
                yield block
        finally:
            file.close()

    def _explained(self, error: Exception) -> InputError | Away:
        if problem := lasting_problem(error):  # fsspec calls what it cannot reach a file that is not found
            return InputError(f"{self.shown}: {problem}")
        code = getattr(error, "code", None) or getattr(error, "status", None)
        unreached = [
            cause for cause in causes(error) if isinstance(cause, ConnectionError | TimeoutError | socket.gaierror)
        ]
        if unreached:
            return explained(unreached[0], self._address, self.shown)
        if isinstance(error, FileNotFoundError) or code == 404:
            return InputError(f"{self.shown}: nothing is there")
        if isinstance(error, PermissionError) or code in (401, 403):
            return InputError(f"{self.shown}: access is denied; are the store's keys in the environment?")
        module = type(error).__module__.partition(".")[0]
        passes = isinstance(error, OSError | EOFError) or module in _PASSING_MODULES
        if passes or code in PASSING:
            return explained(error, self._address, self.shown)
        return InputError(
            f"{self.shown}: cannot be read ({type(error).__name__}: {masked(' '.join(str(error).split()))})"
        )
