"""Names of files that come from outside: bundles, indices, listings of stores, configurations that were fetched.

Whatever becomes a path here goes through one of these functions.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from caloforge.errors import InputError


def plain_name(name: object) -> str:
    """Return the name, if it may become one of a file whoever gave it: letters, digits, ``_`` and ``-``.

    Raises:
        ValueError: it may not.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError(f"{name!r} is not a plain name")
    return name


def relative_name(name: object) -> str:
    """Return the name, if it leads to a file below a folder and nowhere else.

    Raises:
        ValueError: it does not.
    """
    if isinstance(name, str) and name.isprintable() and name and "\\" not in name:
        parts = name.split("/")
        if not any(part in ("", ".", "..") for part in parts):
            return name
    raise ValueError(f"{name!r} is not the name of a file below a folder")


def inside(folder: Path, name: object, *, where: str) -> Path:
    """Return the path of a file below a folder, whoever named it.

    Args:
        folder: the folder.
        name: of the file, relative to it, with ``/``.
        where: the name stands, for the message.

    Raises:
        InputError: it leads out of the folder, by itself or through a link.
    """
    try:
        path = folder / PurePosixPath(relative_name(name))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{where}: {name} leads out of the folder")
    return path
