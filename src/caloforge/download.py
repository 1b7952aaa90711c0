"""Download one file: a store that is away is waited for, a connection that broke goes on where it stopped."""

from __future__ import annotations

import hashlib
import logging
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from caloforge.errors import InputError
from caloforge.patience import PATIENCE_SECONDS, Patience
from caloforge.progress import Progress
from caloforge.store import BLOCK_BYTES, Away, Found, Store, Unreachable

logger = logging.getLogger(__name__)

SHOWERS = (".hdf5", ".h5")
"""Names of HDF5 files, and what those begin with, at 0, 512, 1024, ... bytes."""

_HEAD_BYTES = 2**14
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def _wait(patience: Patience, store: Store, error: Away) -> None:
    """Wait before another attempt.

    Raises:
        Unreachable: the store has been away for too long.
    """
    if not patience.wait(f"{store.shown}: {error}"):
        text = f"{store.shown}: cannot be fetched: the store was away for {patience.away:.0f} s ({error})"
        raise Unreachable(text) from None


def look_patiently(store: Store, seconds: float) -> Found:
    """Return what is there, when the store answers."""
    patience = Patience(seconds)
    while True:
        try:
            return store.look()
        except InputError:
            raise
        except Away as error:
            _wait(patience, store, error)


@dataclass(frozen=True)
class Downloaded:
    """What came.

    Attributes:
        found: what it is; another than was expected if it was replaced meanwhile.
        size: bytes.
        sha256: checksum.
        seconds: that it took.
    """

    found: Found
    size: int
    sha256: str
    seconds: float


def download(
    store: Store, found: Found, target: Path, *, patience: float = PATIENCE_SECONDS, resume: bool = False
) -> Downloaded:
    """Write a file.

    Args:
        store: where it is.
        found: what was seen there.
        target: file to write.
        patience: seconds without a further byte that are borne.
        resume: go on after what the target holds, which is the beginning of the same file.

    Raises:
        InputError: it is gone, may not be read, or is not what its name says.
        Unreachable: the store is away for too long.
        OSError: the target cannot be written.
    """
    logger.info("fetching %s%s", store.shown, f" ({found.size / 1e6:.1f} MB)" if found.size is not None else "")
    start, waiting = time.monotonic(), Patience(patience)
    progress = _progress(found)
    digest, done, furthest, broken = hashlib.sha256(), 0, 0, False
    head = bytearray()
    with target.open("r+b" if resume and target.exists() else "w+b") as file:
        if found.size is not None and target.stat().st_size > found.size:
            file.truncate()
        while block := file.read(BLOCK_BYTES):
            head += block[: max(0, _HEAD_BYTES - done)]
            digest.update(block)
            done += len(block)
        while True:
            try:
                if broken:  # another file may stand there now
                    now = store.look()
                    if now.marks != found.marks:
                        found, progress, furthest = now, _progress(now), 0
                        digest, done = _anew(file)
                if found.size is None or done < found.size:
                    begin, blocks = store.read(found, done)
                    with closing(blocks):
                        if begin != done:
                            digest, done = _anew(file)
                        for block in blocks:
                            if done < _HEAD_BYTES:
                                head[done:] = block[:_HEAD_BYTES]
                            file.write(block)
                            digest.update(block)
                            done += len(block)
                            if done >= _HEAD_BYTES > done - len(block):
                                _check_signature(head, store.shown)
                            if done > furthest:  # a server that breaks off at the same place is not waited for in vain
                                furthest = done
                                waiting.renew()
                            if progress is not None and found.size is not None and done < found.size:
                                progress.update(done // 10**6)
                if found.size is not None and done != found.size:
                    text = f"the connection ended after {done} of {found.size} bytes"
                    if done > found.size:
                        digest, done = _anew(file)
                    raise Away(text)
                break
            except Away as error:  # an unknown host too: it was known a moment ago
                broken = True
                _wait(waiting, store, error)
    if done < _HEAD_BYTES:
        _check_signature(head, store.shown)
    seconds = time.monotonic() - start
    logger.info(
        "fetched %s: %.1f MB in %.1f s, %.1f MB/s, SHA-256 %s",
        store.shown, done / 1e6, seconds, done / 1e6 / max(seconds, 1e-3), digest.hexdigest()[:12],
    )  # fmt: skip
    return Downloaded(found, done, digest.hexdigest(), seconds)


def _progress(found: Found) -> Progress | None:
    if found.size is None:
        return None
    return Progress(f"fetching {found.address.rpartition('/')[2]}", found.size // 10**6, unit="MB")


def _anew(file: BinaryIO) -> tuple[hashlib._Hash, int]:
    file.seek(0)
    file.truncate()
    return hashlib.sha256(), 0


def _check_signature(head: bytearray, shown: str) -> None:
    """Refuse what is called HDF5 and is not, a login page for example, before all of it is fetched."""
    if not shown.lower().endswith(SHOWERS):
        return
    places = [0, *(512 * 2**i for i in range(5))]
    if not any(head[place : place + len(_SIGNATURE)] == _SIGNATURE for place in places):
        raise InputError(f"{shown}: not an HDF5 file (it begins with {bytes(head[:16])!r})")
