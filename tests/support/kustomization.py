"""As much of kustomize as our manifests use, strict about everything else."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

_KEYS = {"apiVersion", "kind", "namespace", "resources", "patches"}
_CLUSTER_WIDE = {"Namespace"}


def build(folder: Path) -> list[Object]:
    """Return what ``kubectl apply -k`` would apply."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert content["kind"] == "Kustomization"
    assert not set(content) - _KEYS
    objects: list[Object] = []
    for resource in content["resources"]:
        target = (folder / resource).resolve()
        found = build(target) if target.is_dir() else [yaml.safe_load(target.read_text())]
        objects += deepcopy(found)
    identities = [(item["kind"], item["metadata"]["name"]) for item in objects]
    assert len(set(identities)) == len(identities), "an object is there twice"
    for patch in content.get("patches", []):
        target = patch["target"]["kind"], patch["target"]["name"]
        (item,) = [item for item, identity in zip(objects, identities, strict=True) if identity == target]
        for operation in yaml.safe_load(patch["patch"]):
            _replace(item, operation)
    if namespace := content.get("namespace"):
        for item in objects:
            if item["kind"] not in _CLUSTER_WIDE:
                item["metadata"]["namespace"] = namespace
    return objects


def _replace(item: Any, operation: Object) -> None:
    assert operation["op"] == "replace"
    *path, last = operation["path"].strip("/").split("/")
    for part in path:
        item = item[int(part)] if isinstance(item, list) else item[part]
    key = int(last) if isinstance(item, list) else last
    assert item[key] is not None
    item[key] = operation["value"]
