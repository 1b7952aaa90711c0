"""A file that HDF5 writes, and that takes all HDF5 gives it even when the disk is full.

HDF5 writes part of what it has when a dataset or a file is closed. Where that fails, as on a full disk, h5py can tell
nobody, and the process crashes at its end. So the error is kept for who wants to know, and what the disk did not
take is held in memory until the file is closed and thrown away: no more than the caches of HDF5.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


class Hdf5Output(io.RawIOBase):
    """What ``h5py.File`` is opened on.

    Attributes:
        error: of the first write that failed, None if none did.
    """

    def __init__(self, path: Path) -> None:
        """Make the file, empty."""
        self.error: OSError | None = None
        self._file = path.open("w+b", buffering=0)
        self._place = 0
        self._rest: dict[int, bytes] = {}

    def check(self) -> None:
        """Raise the error of the first write that failed.

        Raises:
            OSError: the disk is full, for example.
        """
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset if whence == io.SEEK_SET else self._file.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def write(self, data: Any) -> int:
        """Write, to the disk or else to memory."""
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                self._file.seek(self._place)
                done = 0
                while done < len(view):
                    done += self._file.write(view[done:])
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._rest[self._place] = bytes(view)
        self._place += len(view)
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Read what was written here; what is not known is 0."""
        view = memoryview(buffer).cast("B")
        self._file.seek(self._place)
        found = self._rest.get(self._place) or self._file.read(len(view)) or b""
        found = found[: len(view)].ljust(len(view), b"\0") if self.error is not None else found
        view[: len(found)] = found
        self._place += len(found)
        return len(found)

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen the file."""
        size = self._place if size is None else size
        if self.error is None:
            try:
                self._file.truncate(size)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Do nothing: nothing is held back here."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
