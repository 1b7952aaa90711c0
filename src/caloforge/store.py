"""What all places have in common from which files are fetched: what is there, how it is read, what may go wrong."""

from __future__ import annotations

import socket
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Protocol

from caloforge.errors import InputError
from caloforge.network import causes, lasting_problem
from caloforge.secrets import masked

BLOCK_BYTES = 2**20
"""How much of a file is in memory at a time."""

CONNECT_SECONDS, READ_SECONDS = 10, 60
"""How long a connection and the next bytes may take."""


class Away(Exception):
    """The store does not answer, or broke off; it may be back in a while."""


class Unreachable(InputError):
    """The store did not come back in time."""


@dataclass(frozen=True)
class Found:
    """What is at an address.

    Attributes:
        address: without secrets.
        size: bytes; None where the server does not say, and for a folder.
        marks: what tells whether it has changed: ETag, time, size.
        folder: whether it is a folder.
    """

    address: str
    size: int | None
    marks: Mapping[str, str]
    folder: bool = False


class Store(Protocol):
    """A place, opened at one address.

    Each method raises :class:`InputError` for what another attempt would meet too, :class:`Away` for
    the rest.
    """

    shown: str
    """The address as it may be shown."""

    def look(self) -> Found:
        """Say what is there; nothing is downloaded."""
        ...

    def read(self, found: Found, start: int) -> tuple[int, Generator[bytes, None, None]]:
        """Return where the bytes begin that come, ``start`` or 0, and the bytes in blocks.

        ``found`` is what was seen before: another version is not to be mixed with it.
        """
        ...

    def files(self) -> list[str]:
        """Return the paths of the files below a folder, oldest first."""
        ...

    def at(self, below: str) -> Store:
        """Return the place of a file below a folder; it lives as long as this one."""
        ...

    def close(self) -> None:
        """End the connections."""
        ...


def explained(error: BaseException, address: str, shown: str) -> InputError | Away:
    """Return what an error of a connection means: something to mend, or something that may pass."""
    if problem := lasting_problem(error):
        return InputError(f"{shown}: {problem}")
    for cause in causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            return _UnknownHost(f"{shown}: there is no host of that name ({_line(error, address, shown)})")
    return Away(_line(error, address, shown))


class _UnknownHost(InputError, Away):
    """At the first look a wrong name; later a store that is being started again."""


def _line(error: BaseException, address: str, shown: str) -> str:
    return masked(" ".join(f"{type(error).__name__}: {error}".split()).replace(address, shown))
