"""Write files and folders whole or not at all, and sum them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caloforge.errors import InputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well.

    Its mode is 0644 less the umask, whatever wrote it: results are to be read by others.

    Raises:
        InputError: the folder cannot be made or written.
    """
    temporary = _temporary_beside(path, directory=False)
    mode = temporary.stat().st_mode
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        _let_read(temporary, mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block ends well.

    What stood at ``path`` before is removed only once the new folder is complete. Modes are 0755 and, of
    files, 0644, less the umask.

    Raises:
        InputError: the parent folder cannot be made or written.
    """
    temporary = _temporary_beside(path, directory=True)
    mode = temporary.stat().st_mode
    try:
        yield temporary
        for one in temporary.rglob("*"):
            _let_read(one, mode)
        if path.exists():
            old = temporary.with_name(temporary.name + ".old")
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_beside(path: Path, *, directory: bool) -> Path:
    """Make a file or folder with a name that nobody has; its mode shows the umask, which only the kernel knows safely."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if directory:
            temporary.mkdir(mode=0o755)
        else:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode=0o644))
    except OSError as error:
        msg = f"{path.parent}: cannot write here ({error.strerror}); choose another output folder"
        raise InputError(msg) from error
    return temporary


def _let_read(path: Path, mode: int) -> None:
    """Give a file or folder the permissions of ``mode``: libraries write through files that are private (safetensors)."""
    state = path.stat(follow_symlinks=False)
    if stat.S_ISLNK(state.st_mode):
        return
    wanted = stat.S_IMODE(mode) & (0o777 if stat.S_ISDIR(state.st_mode) else 0o666)
    with suppress(OSError):  # a mount without modes
        path.chmod(stat.S_IMODE(state.st_mode) | wanted)


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
