"""A long computation may be asked between its steps whether anybody still wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_LOOK: ContextVar[Callable[[], None] | None] = ContextVar("look", default=None)


@contextmanager
def interruptible(look: Callable[[], None]) -> Iterator[None]:
    """Have ``look`` called before each step of a sampler while the block runs; it raises to end the sampling."""
    token = _LOOK.set(look)
    try:
        yield
    finally:
        _LOOK.reset(token)


def numbered_steps(n: int) -> Iterator[int]:
    """Yield 0 to n - 1, as every sampler does that takes steps; see :func:`interruptible`."""
    look = _LOOK.get()
    for i in range(n):
        if look is not None:
            look()
        yield i
