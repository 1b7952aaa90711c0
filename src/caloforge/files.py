"""Write files and folders whole or not at all, and sum them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from caloforge.errors import InputError
from caloforge.space import NoSpace, for_want_of_space
from caloforge.temporary import OLD, let_read, temporary_beside


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well.

    For files of our own; what a user names is written with :func:`caloforge.outputs.result_file`. Its mode is 0644
    less the umask, whatever wrote it: results are to be read by others.

    Raises:
        InputError: the folder cannot be made or written.
        NoSpace: the disk is full.
    """
    with _beside(path, folder=False) as temporary:
        mode = temporary.stat().st_mode
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        let_read(temporary, mode)
        temporary.replace(path)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block ends well.

    What stood at ``path`` before is removed only once the new folder is complete. For folders of our own; what a
    user names is written with :func:`caloforge.outputs.result_folder`. Modes are 0755 and, of files, 0644, less the
    umask.

    Raises:
        InputError: the parent folder cannot be made or written.
        NoSpace: the disk is full.
    """
    with _beside(path, folder=True) as temporary:
        mode = temporary.stat().st_mode
        yield temporary
        let_read(temporary, mode)
        if path.exists():
            old = temporary.with_name(temporary.name + OLD)
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)


@contextmanager
def _beside(path: Path, *, folder: bool) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(temporary_beside(path, folder=folder))
        except OSError as error:
            if for_want_of_space(error):
                raise NoSpace(path.parent) from error
            msg = f"{path.parent}: cannot write here ({error.strerror}); choose another output folder"
            raise InputError(msg) from error
        yield temporary


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from error
    except ValueError:  # an integer of thousands of digits
        raise InputError(f"{path}: holds a number that is none") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(path: Path) -> tuple[str, int]:
    """Return SHA-256 and size of a file, or of a folder.

    A folder's digest is that of the lines ``<SHA-256 of the file>  <name>`` (as ``sha256sum`` writes
    them) of its files, whose names are relative to it, with ``/``, and sorted by their bytes. Empty
    folders do not count, as an object store knows none.
    """
    if not path.is_dir():
        return sha256(path), path.stat().st_size
    names = {one.relative_to(path).as_posix(): one for one in path.rglob("*") if one.is_file()}
    ordered = sorted(names, key=os.fsencode)
    lines = "".join(f"{sha256(names[name])}  {name}\n" for name in ordered)
    size = sum(one.stat().st_size for one in names.values())
    return hashlib.sha256(os.fsencode(lines)).hexdigest(), size
