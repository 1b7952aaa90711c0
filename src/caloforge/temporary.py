"""Temporary files and folders that do not outlive a killed process: the next one of their kind removes them.

Each lies in a hidden folder that is locked for as long as it is in use, and the lock ends with the process, however
that ends. What carries one of our names and no lock was left behind. (The folder is locked and not a file, as HDF5
locks its files itself.) Where there are no locks (some network disks) nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caloforge.errors import InputError
from caloforge.space import NoScratch, space_told

SUFFIX = ".part"
"""Ends the names of the hidden folders beside what is written."""

OLD = ".old"
"""Ends the name of a folder that is replaced, for as long as it waits for its end in there."""

SCRATCH = "caloforge-scratch-"
"""Begins the names of scratch folders."""

_RANDOM = "[a-z0-9_]{8}"
"""What :mod:`tempfile` puts into a name."""


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that goes with the block.

    Args:
        parent: folder that it is made in; without it that of the system's temporary files (``TMPDIR``).

    Raises:
        NoSpace: the disk is full.
        NoScratch: the system's folders for temporary files are full, or may not be written to.
        OSError: it cannot be made.
    """
    parent = _system_folder() if parent is None else parent
    with space_told(parent):
        _remove_abandoned(one for one in parent.glob(f"{SCRATCH}*") if is_temporary(one.name))
        with _in_use(parent, SCRATCH, "") as folder:
            yield folder


@contextmanager
def temporary_beside(path: Path, *, folder: bool, within: bool = False, alone: bool = False) -> Iterator[Path]:
    """Yield a new file or folder of the same name on the same disk as ``path``; it goes with the block.

    What a killed process left of its own one is removed, and put back if it was about to replace ``path``.

    Args:
        path: what is to be written.
        folder: make a folder, not a file.
        within: make it in the folder ``path``, not beside it: where that is a mount point.
        alone: refuse where another process is about to write ``path``, too; of two that begin at once one goes on.

    Raises:
        InputError: another process is at it.
        NoSpace: the disk is full.
        OSError: it cannot be made.
    """
    parent = path if within else path.parent
    with space_told(parent):
        prefix = f".{path.name}."
        _remove_abandoned(_ours(parent, prefix), replaced=path)
        if alone and _used(parent, prefix):
            raise _taken(path)
        with _in_use(parent, prefix, SUFFIX) as holder:
            if alone and any(other.name < holder.name for other in _used(parent, prefix)):
                raise _taken(path)
            temporary = holder / path.name
            temporary.mkdir() if folder else temporary.touch()
            yield temporary


def let_read(path: Path, mode: int) -> None:
    """Give a file, or a folder and all in it, the permissions of ``mode``.

    Libraries write through files that are private (safetensors), and results are to be read by others.

    Args:
        path: the file or folder.
        mode: of a file or folder that was made with the process' umask, which only the kernel knows safely.
    """
    for one in (path, *(path.rglob("*") if path.is_dir() else ())):
        state = one.stat(follow_symlinks=False)
        if not stat.S_ISLNK(state.st_mode):
            wanted = stat.S_IMODE(mode) & (0o777 if stat.S_ISDIR(state.st_mode) else 0o666)
            with suppress(OSError):  # a mount without modes
                one.chmod(stat.S_IMODE(state.st_mode) | wanted)


def is_temporary(name: str) -> bool:
    """Return whether this can be the name of one of ours."""
    return re.fullmatch(rf"{SCRATCH}{_RANDOM}|\..*\.{_RANDOM}{re.escape(SUFFIX)}", name, re.DOTALL) is not None


def _system_folder() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise NoScratch from None


@contextmanager
def _in_use(parent: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """Make and lock a new folder, which goes with the block."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        handle = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # a disk without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not path.exists():  # taken for abandoned in the moment before the lock
                continue
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
            return
        finally:
            os.close(handle)


def _ours(parent: Path, prefix: str) -> list[Path]:
    """Return what temporaries of ours look like: others name things ``.something.part`` too."""
    name = prefix.removeprefix(".").removesuffix(".")
    pattern = re.compile(re.escape(prefix) + _RANDOM + re.escape(SUFFIX))
    with suppress(OSError):
        named = [one for one in parent.iterdir() if pattern.fullmatch(one.name) and one.is_dir()]
        return [one for one in named if all(inner.name.startswith(name) for inner in one.iterdir())]
    return []


def _used(parent: Path, prefix: str) -> list[Path]:
    """Return those of :func:`_ours` whose lock somebody holds; on a disk without locks there are none."""
    found = []
    for one in _ours(parent, prefix):
        with suppress(OSError):
            if _is_in_use(one, without_locks=False):
                found.append(one)
    return found


def _taken(path: Path) -> InputError:
    return InputError(f"{path}: another command is writing here; wait for its end or choose another output")


def _remove_abandoned(folders: Iterable[Path], *, replaced: Path | None = None) -> None:
    """Remove the folders that nobody uses.

    Args:
        folders: that carry one of our names.
        replaced: what was to be replaced from them; it is put back where only the first half of that was done.
    """
    for folder in list(folders):
        with suppress(OSError):
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid() or _is_in_use(folder):
                continue
            if replaced is not None and not replaced.exists() and (old := folder / (replaced.name + OLD)).is_dir():
                old.rename(replaced)
            shutil.rmtree(folder)


def _is_in_use(folder: Path, *, without_locks: bool = True) -> bool:
    """Return whether a process holds the lock of a folder; ``without_locks`` is the answer where there are none."""
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return without_locks
    finally:
        os.close(handle)
    return False
