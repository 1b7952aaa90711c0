"""As much of kustomize as our manifests use, strict about everything else."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

_KEYS = {"apiVersion", "kind", "namespace", "resources", "components", "patches"}
_API_VERSIONS = {"Kustomization": "kustomize.config.k8s.io/v1beta1", "Component": "kustomize.config.k8s.io/v1alpha1"}


def build(folder: Path) -> list[Object]:
    """Return what ``kubectl apply -k`` would apply."""
    return _accumulated(folder, [], kind=None)


def _accumulated(folder: Path, objects: list[Object], *, kind: str | None) -> list[Object]:
    """Add what a folder holds to what its parent has so far, and change it all as the folder says.

    As in kustomize 5 (accumulateTarget): resources, each folder of them built by itself; then components, which work
    on what is there; then patches and the namespace.
    """
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert not set(content) - _KEYS
    assert content["apiVersion"] == _API_VERSIONS[content["kind"]]
    assert kind in (None, content["kind"]), f"{folder}: expected kind {kind}, got {content['kind']}"
    objects = list(objects)
    for resource in content.get("resources", []):
        target = (folder / resource).resolve()
        if target.is_dir():
            found = _accumulated(target, [], kind="Kustomization")
        else:
            found = [yaml.safe_load(target.read_text())]
        objects = _joined(objects, deepcopy(found))
    for component in content.get("components", []):
        target = (folder / component).resolve()
        assert target.is_dir(), f"{folder}: component {component} is no folder"
        objects = _joined([], _accumulated(target, objects, kind="Component"))
    for patch in content.get("patches", []):
        target = patch["target"]["kind"], patch["target"]["name"]
        (item,) = [item for item in objects if _identity(item) == target]
        for operation in yaml.safe_load(patch["patch"]):
            _replace(item, operation)
    if namespace := content.get("namespace"):
        for item in objects:
            # As its namespace transformer does: a Namespace is called so, everything else is put there.
            item["metadata"]["name" if item["kind"] == "Namespace" else "namespace"] = namespace
    return objects


def _joined(objects: list[Object], found: list[Object]) -> list[Object]:
    objects = [*objects, *found]
    identities = [_identity(item) for item in objects]
    assert len(set(identities)) == len(identities), "an object is there twice"
    return objects


def _identity(item: Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _replace(item: Any, operation: Object) -> None:
    assert operation["op"] == "replace"
    *path, last = operation["path"].strip("/").split("/")
    for part in path:
        item = item[int(part)] if isinstance(item, list) else item[part]
    key = int(last) if isinstance(item, list) else last
    assert item[key] is not None
    item[key] = operation["value"]
