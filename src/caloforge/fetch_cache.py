"""A folder that keeps fetched files by checksum, for all steps of all runs that see it.

``CALOFORGE_FETCH_CACHE`` names it; on a cluster it lies on a claim that many nodes may write. Several
processes may fetch at once: a lock makes one of them download and the others wait. Where locks do
not work (NFS without its lock service) more than one may download, and the first that is done wins:
a file gets its name only when it is whole, and a name that is taken stays with who has it.

::

    files/SHA256/.content      the file, read-only
    files/SHA256/.record.json  size and time of it when it was written
    files/SHA256/NAME          a link to it, by the name that it has where it comes from
    sources/KEY.json           address, ETag, size and time of a source, and the checksum of what was there
    locks/KEY, partial/KEY-...
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caloforge.download import Downloaded, download
from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.space import NoSpace
from caloforge.store import Found, Store

logger = logging.getLogger(__name__)

FETCH_CACHE = "CALOFORGE_FETCH_CACHE"
"""Environment variable: the folder."""

LOOK_SECONDS = 1.0
"""How often a waiting process looks whether the other one is done."""

STALE_SECONDS = 3600.0
"""What nobody has written to for so long was left by a process that was killed."""

_PARTIAL = re.compile(r"[0-9a-f]{32}-\w+")


class FetchCache:
    """The files of one folder.

    Each method that writes raises OSError where the folder cannot be written, and that or NoSpace where it is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def by_checksum(self, checksum: str, name: str) -> Path | None:
        """Return the file with a checksum under a name, if it is there and whole.

        Size and time of change are compared with those when it was written; only where they differ
        it is summed again, as that may take as long as fetching it.
        """
        content = self._content(checksum)
        try:
            state = content.stat()
        except OSError:
            return None
        marks = {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
        record = content.with_name(".record.json")
        if _read(record) != marks:
            if sha256(content) != checksum:
                logger.warning("%s: is damaged; fetching it again", content)
                return None
            with suppress(OSError, InputError):
                write_json(record, marks)
        link = content.with_name(name)
        try:
            link.symlink_to(content.name)
        except FileExistsError:
            pass
        except OSError:  # read-only, or a disk without links
            return content
        return link

    def known(self, found: Found, key: str, name: str) -> tuple[Path, dict[str, Any]] | None:
        """Return the file that was fetched when the source looked the same, and what was noted then."""
        record = _read(self.folder / "sources" / f"{key}.json")
        if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
            return None
        path = self.by_checksum(record["sha256"], name)
        return None if path is None else (path, record)

    def fetch(self, store: Store, found: Found, key: str, *, checksum: str, patience: float) -> Downloaded:
        """Download into the folder and keep the file.

        Raises:
            InputError: its checksum is not the one asked for, or see :func:`caloforge.download.download`.
        """
        folder = self.folder / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{key}-", dir=folder)
        os.close(handle)
        partial = Path(name)
        try:
            self._remove_stale(partial)
            check_space(folder, found)
            got = download(store, found, partial, patience=patience)
            if checksum and got.sha256 != checksum:
                raise InputError(f"{store.shown}: its SHA-256 is {got.sha256}, not {checksum}")
            self._keep(partial, got)
        finally:
            partial.unlink(missing_ok=True)
        return got

    def note(self, key: str, record: dict[str, Any]) -> None:
        """Note what was at a source."""
        _write(self.folder / "sources" / f"{key}.json", record)

    @contextmanager
    def alone(self, key: str, shown: str, *, patience: float) -> Iterator[None]:
        """Wait until no other process fetches the same, as far as locks work here."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / key).open("a", encoding="utf-8") as file:
            seen, since, said = -1, time.monotonic(), False
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pass
                except OSError as error:
                    logger.debug("%s: no locks here (%s)", locks, error)
                    break
                if not said:
                    logger.info("%s: another process is fetching it; waiting", shown)
                    said = True
                if (size := self._partial_bytes(key)) != seen:
                    seen, since = size, time.monotonic()
                elif time.monotonic() - since > patience:  # its node may be gone, and the lock with it
                    logger.warning("%s: the other process does not go on; fetching it here too", shown)
                    break
                time.sleep(LOOK_SECONDS)
            yield

    def _content(self, checksum: str) -> Path:
        return self.folder / "files" / checksum / ".content"

    def _keep(self, partial: Path, got: Downloaded) -> None:
        content = self._content(got.sha256)
        content.parent.mkdir(parents=True, exist_ok=True)
        partial.chmod(0o444)
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        state = partial.stat()
        try:
            # Others may be reading what is there: on NFS a file that is replaced is lost to them.
            content.hardlink_to(partial)
        except OSError:
            if self.by_checksum(got.sha256, ".content") is not None:
                return
            partial.replace(content)
        _write(content.with_name(".record.json"), {"size": state.st_size, "mtime_ns": state.st_mtime_ns})

    def _partial_bytes(self, key: str) -> int:
        total = 0
        for path in (self.folder / "partial").glob(f"{key}-*"):
            with suppress(OSError):
                total += path.stat().st_size
        return total

    def _remove_stale(self, ours: Path) -> None:
        """Remove what killed processes left; the clock is that of the disk."""
        now = ours.stat().st_mtime
        for path in ours.parent.iterdir():
            with suppress(OSError):
                if _PARTIAL.fullmatch(path.name) and now - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


def cache_of_environment() -> FetchCache | None:
    """Return the cache that the environment names."""
    folder = os.environ.get(FETCH_CACHE)
    return FetchCache(Path(folder).absolute()) if folder else None


def key_of(address: str, found: Found) -> str | None:
    """Return what a source is known by; None if nothing would tell that it has changed."""
    if not {name for name in found.marks if name != "size"}:
        return None
    # An address may differ from another in its query only; a digest does not give away a signature.
    query = hashlib.sha256(address.partition("?")[2].encode()).hexdigest()
    content = json.dumps([found.address, query, dict(found.marks)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def check_space(folder: Path, found: Found) -> None:
    """Raise NoSpace if a file is larger than what is free."""
    if found.size is not None and found.size > (free := shutil.disk_usage(folder).free):
        raise NoSpace(folder, f"{found.size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free")


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (InputError, OSError):
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        write_json(path, content)
    except InputError as error:  # the folder cannot be written
        raise error.__cause__ or OSError(errno.EACCES, str(error)) from None
