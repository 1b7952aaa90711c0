"""Seeds: the same seed, the same showers, in Python, in C++, in an ONNX graph and over a network."""

from __future__ import annotations

from caloforge.errors import InputError

MAX_SEED = 2**63 - 1
"""ONNX graphs and gRPC carry a seed as a signed integer of 64 bits."""


def check_seed(seed: int, *, name: str = "seed") -> None:
    """Refuse a seed that not everything can carry.

    Args:
        seed: the seed, or another number of a stream.
        name: what messages call it.

    Raises:
        InputError: with the allowed range.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"{name}: expected an integer from 0 to {MAX_SEED}, got {seed}")
