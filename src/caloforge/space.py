"""A full disk, told in one line whichever library met it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEXT = re.compile(r"[Nn]o space left on|Disk quota exceeded|disk is full|File too large|errno = (?:28|122|27)\b")
"""How HDF5, safetensors, SQLite and our own processes pass it on."""

_NOTHING_LEFT = 2**20
"""Bytes; NumPy and PyTorch say only that less was written than they wanted."""


class NoSpace(RuntimeError):
    """The disk is full; the same command goes on when there is room."""

    def __init__(self, where: Path | str, detail: str = "") -> None:
        """Say where.

        Args:
            where: the folder, or what is written to.
            detail: how much is wanted, if that is known.
        """
        wanted = f" ({detail})" if detail else ""
        super().__init__(f"no space left on {where}{wanted}; make room there and give the same command again")


class NoScratch(RuntimeError):
    """No folder for temporary files can be written to."""

    def __init__(self) -> None:
        """Name the folders that were tried."""
        tried = ", ".join([*filter(None, [os.environ.get("TMPDIR")]), "/tmp", "/var/tmp"])
        super().__init__(
            f"no folder for temporary files: {tried} are full or may not be written to; make room there, or set "
            "TMPDIR to a folder that has some"
        )


def lacks_scratch(error: BaseException) -> bool:
    """Return whether an exception is what :func:`tempfile.gettempdir` says where no folder will do."""
    return isinstance(error, FileNotFoundError) and "No usable temporary directory" in str(error)


@contextmanager
def space_told(folder: Path) -> Iterator[None]:
    """Turn what a library raises for want of space into :class:`NoSpace`.

    Args:
        folder: that the block writes to.

    Raises:
        NoSpace: the disk is full.
    """
    try:
        yield
    except NoSpace:
        raise
    except Exception as error:
        if for_want_of_space(error, folder):
            raise NoSpace(folder) from error
        raise


def for_want_of_space(error: BaseException, folder: Path | None = None) -> bool:
    """Return whether an exception, or what caused it, comes of a full disk.

    Args:
        error: the exception.
        folder: that was written to; an error that says nothing is taken for one if nothing is free there.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NoSpace) or getattr(cause, "errno", None) in _FULL or tells_of_space(str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    silent = isinstance(error, RuntimeError | OSError) and getattr(error, "errno", None) is None
    ours = type(error).__module__.startswith("caloforge.")  # these know why
    return silent and not ours and folder is not None and _free(folder) < _NOTHING_LEFT


def tells_of_space(text: str) -> bool:
    """Return whether a message, of another process for example, is about a full disk."""
    return bool(_TEXT.search(text))


def reserve(handle: int, size: int) -> None:
    """Have the disk give all space of a file now: a mapped file that finds none later kills the process.

    Args:
        handle: of the open file.
        size: bytes.

    Raises:
        OSError: there is not as much.
    """
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # disks that cannot
            raise
    except AttributeError:  # macOS
        pass


def _free(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return _NOTHING_LEFT
    return found.f_bavail * found.f_frsize
