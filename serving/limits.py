"""How much one request may ask for; the server and the client hold to the same numbers."""

from __future__ import annotations

from caloforge.errors import InputError

MAX_SHOWERS_PER_REQUEST = 10_000
"""A request is answered in one piece of memory, and others wait while it is sampled."""

MAX_SEED = 2**63 - 1
"""gRPC carries the seed as a signed 64-bit integer."""


def check_count(n: int) -> None:
    """Refuse a request for no showers or for too many.

    Raises:
        InputError: with the limit.
    """
    if n < 1:
        raise InputError(f"a request asks for at least one shower, got {n}")
    if n > MAX_SHOWERS_PER_REQUEST:
        msg = f"a request asks for at most {MAX_SHOWERS_PER_REQUEST} showers, got {n}; split it into several"
        raise InputError(msg)


def check_seed(seed: int) -> None:
    """Refuse a seed that does not fit the protocol.

    Raises:
        InputError: with the allowed range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed: expected an integer from 0 to {MAX_SEED}, got {seed}")


def check_steps(steps: int | None) -> None:
    """Refuse a number of sampling steps that is not positive.

    Raises:
        InputError: with the number.
    """
    if steps is not None and steps < 1:
        raise InputError(f"steps: expected a positive integer, got {steps}")
