"""Things by name, imported when they are asked for, and open to notebooks and other packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Generic, TypeVar, cast

from caloforge.errors import InputError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing; what a name stands for is imported by :meth:`get` alone.

    A package adds to it by an entry point, which every process on every machine that has the package
    knows; ``register`` adds to it in this process only.

    Attributes:
        kind: what the things are called in messages.
        group: entry-point group of other packages.
    """

    def __init__(self, kind: str, own: Mapping[str, str], *, group: str) -> None:
        """Take the names of the package itself.

        Args:
            kind: what the things are called in messages.
            own: name to ``module:attribute``.
            group: entry-point group of other packages.
        """
        self.kind, self.group = kind, group
        self._own = dict(own)
        self._registered: dict[str, T | str] = {}

    @cached_property
    def _installed(self) -> dict[str, str]:
        return {point.name: point.value for point in entry_points(group=self.group)}

    @property
    def names(self) -> tuple[str, ...]:
        """All names: the package's own in their order, then those of others. Nothing is imported."""
        return tuple(dict.fromkeys([*self._own, *self._installed, *self._registered]))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        """Return whether there is such a name."""
        return name in self.names

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names)

    def check(self, name: str) -> None:
        """Refuse a name that is unknown.

        Raises:
            InputError: it is; the nearest names are given.
        """
        if name not in self.names:
            raise unknown_name(self.kind, name, self.names)

    def get(self, name: str) -> T:
        """Return what a name stands for.

        Raises:
            InputError: the name is unknown, or what it stands for cannot be imported.
        """
        self.check(name)
        found = self._registered.get(name) or self._own.get(name) or self._installed[name]
        if not isinstance(found, str):
            return found
        module, _, attribute = found.partition(":")
        try:
            return cast("T", getattr(import_module(module), attribute))
        except (ImportError, AttributeError) as error:
            raise InputError(f"{self.kind} {name!r}: {found} cannot be imported ({error})") from error

    def items(self) -> Iterator[tuple[str, T]]:
        """Iterate over the names and what they stand for, all of which is imported.

        Raises:
            InputError: one cannot be imported.
        """
        return ((name, self.get(name)) for name in self.names)

    def values(self) -> Iterator[T]:
        """Iterate over what the names stand for, as :meth:`items` does."""
        return (self.get(name) for name in self.names)

    def register(self, name: str, thing: T | str) -> None:
        """Add something, or ``module:attribute`` of it, under a name of its own.

        Processes that are started later, as of a training apart or on a cluster, do not know it: there an
        entry point is needed.

        Raises:
            InputError: the name is taken by something else.
        """
        if name in self.names and self._registered.get(name) != thing:
            raise InputError(f"{self.kind} {name!r} exists already; take another name")
        self._registered[name] = thing

    def forget(self, name: str) -> None:
        """Take back what :meth:`register` added."""
        self._registered.pop(name, None)
