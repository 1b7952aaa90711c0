"""Find the fields of a Kubernetes object that its type does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_LIST = re.compile(r"list\[(.+)\]")
_DICT = re.compile(r"dict\(str, (.+)\)")


def unknown_fields(value: Any, kind: str) -> Iterator[str]:
    """Yield the dotted names of what an object holds but its type does not.

    Args:
        value: the object, as read from YAML.
        kind: name of its class in the ``kubernetes`` package, e.g. ``V1Job``.
    """
    from kubernetes import client

    if match := _LIST.fullmatch(kind):
        for number, item in enumerate(value if isinstance(value, list) else []):
            for name in unknown_fields(item, match[1]):
                yield f"[{number}].{name}"
    elif match := _DICT.fullmatch(kind):
        for key, item in (value if isinstance(value, dict) else {}).items():
            for name in unknown_fields(item, match[1]):
                yield f"{key}.{name}"
    elif hasattr(client, kind) and isinstance(value, dict):
        model = getattr(client, kind)
        attributes = {name: attribute for attribute, name in model.attribute_map.items()}
        for key, item in value.items():
            if key not in attributes:
                yield key
                continue
            for name in unknown_fields(item, model.openapi_types[attributes[key]]):
                yield f"{key}{'' if name.startswith('[') else '.'}{name}"
