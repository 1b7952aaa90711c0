"""Find what becomes different when a Kubernetes object is read into its type and written back.

Katib's webhook does so with the template of a trial, and refuses it unless it comes back as it was. The types of
Kubernetes (in Go) leave out what is empty: lists, maps, texts, nulls, and the zeros of most fields. Amounts they
write in their own way: 1024Mi is 1Gi.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from caloforge.pods import canonical

_ZERO_IS_NOTHING = {
    "failureThreshold", "generation", "hostIPC", "hostNetwork", "hostPID", "hostPort", "initialDelaySeconds",
    "periodSeconds", "readOnly", "stdin", "stdinOnce", "successThreshold", "timeoutSeconds", "tty",
}  # fmt: skip
"""Numbers and truth values that are left out where they are 0 or false; others tell 0 from nothing."""

_AMOUNTS = {"divisor", "sizeLimit"}
"""Fields with an amount, which the ``kubernetes`` package takes for texts."""

_NOT_COMPARED = re.compile(r"/resources/(limits|requests)/")
_LIST = re.compile(r"list\[(.+)\]")


def lost(value: dict[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each field that would not come back as it was, and its value as Go prints it.

    Fields that the type does not have are left to :func:`caloforge.tuning.job_fields.unknown_fields`.

    Args:
        value: the object, as read from YAML.
        kind: name of its class in the ``kubernetes`` package, e.g. ``V1Job``.

    Raises:
        ValueError: it cannot be read into its type, e.g. a text for a number.
    """
    from kubernetes.client import ApiClient, Configuration

    api = ApiClient(Configuration())
    read = api.deserialize(SimpleNamespace(data=json.dumps(value)), kind)
    for path, was in [*_changed(value, api.sanitize_for_serialization(read), ""), *_dropped(value, kind, "")]:
        if not _NOT_COMPARED.search(path):
            yield path, _as_go_prints(was)


def _changed(value: Any, written: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what is another value afterwards, e.g. a number where the type has a text."""
    if isinstance(value, dict) and isinstance(written, dict):
        for key in value.keys() & written.keys():
            yield from _changed(value[key], written[key], f"{path}/{key}")
    elif isinstance(value, list) and isinstance(written, list):
        for number, (one, other) in enumerate(zip(value, written, strict=True)):
            yield from _changed(one, other, f"{path}/{number}")
    elif value != written or type(value) is not type(written):
        yield path, value


def _dropped(value: Any, kind: str, path: str) -> Iterator[tuple[str, Any]]:
    """Yield what Go's types leave out, or write in another way."""
    from kubernetes import client

    if match := _LIST.fullmatch(kind):
        for number, item in enumerate(value):
            yield from _dropped(item, match[1], f"{path}/{number}")
    elif hasattr(client, kind) and isinstance(value, dict):
        model = getattr(client, kind)
        kinds = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
        for key, item in value.items():
            where, inner = f"{path}/{key}", kinds.get(key, "object")
            nothing = item is None or item == "" or (item in ([], {}) and not hasattr(client, inner))
            zero = key in _ZERO_IS_NOTHING and not item and kind != "V1CSIVolumeSource"
            if nothing or zero or (key in _AMOUNTS and not _is_canonical(item)):
                yield where, item
            else:
                yield from _dropped(item, inner, where)


def _is_canonical(amount: str) -> bool:
    try:
        return canonical(amount) == amount
    except ValueError:  # no amount at all
        return False


def _as_go_prints(value: Any) -> str:
    return {"None": "<nil>", "{}": "map[]", "True": "true", "False": "false"}.get(str(value), str(value))
