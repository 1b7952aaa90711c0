"""What a real Kubeflow answered about our own objects, and its shape, which the fakes must have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "kubeflow"
_FREE = ("labels", "annotations", "spec")
"""Keys below which names are chosen by us, or stand for what we asked for."""


def recorded(name: str) -> list[dict[str, Any]]:
    """Return the objects of a recorded answer, a list of one where it was no list."""
    answer = json.loads((FOLDER / f"{name}.json").read_text())
    return list(answer.get("items", [answer]))


def shape(item: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted paths of an object's fields; those of all items of a list are one."""
    if isinstance(item, dict):
        for key, value in item.items():
            path = f"{prefix}.{key}".lstrip(".")
            yield path
            if key not in _FREE:
                yield from shape(value, path)
    elif isinstance(item, list):
        for one in item:
            yield from shape(one, f"{prefix}[]")
