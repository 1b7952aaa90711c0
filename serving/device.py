"""Where a server samples."""

from __future__ import annotations

import torch


def best_device() -> str:
    """Return ``cuda`` where there is one, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"
