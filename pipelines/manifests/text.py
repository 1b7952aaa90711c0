"""How a manifest and the kustomization that lists it are written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

LABELS: Mapping[str, str] = {"app.kubernetes.io/name": "caloforge"}

_HEAD = "# Written by `caloforge manifests`; a test compares.\n"


def new_object(api_version: str, kind: str, name: str, *, annotations: Mapping[str, str] | None = None) -> Object:
    """Return an object with our label and nothing in it yet."""
    metadata: Object = {"name": name, "labels": dict(LABELS)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def folder_of(files: Mapping[str, tuple[str, Object]], kustomization: Object | None = None) -> dict[str, str]:
    """Return the texts of the files (a note and an object each) and of the kustomization that lists them."""
    texts = {name: f"{_HEAD}# {note}\n{_yaml(content)}" for name, (note, content) in files.items()}
    extra = dict(kustomization or {})
    listed = [*extra.pop("resources", []), *files]
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    texts["kustomization.yaml"] = _HEAD + _yaml({**head, **extra, "resources": listed})
    return texts


def component_of(files: Mapping[str, tuple[str, Object]]) -> dict[str, str]:
    """Return the same as a part that an overlay names among its ``components``, and can leave out."""
    head = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    return folder_of(files, head)


def is_manifest(path: Path) -> bool:
    """Return whether a file begins as ours do."""
    with path.open("rb") as file:
        return file.read(len(_HEAD)) == _HEAD.encode()


class _Dumper(yaml.SafeDumper):
    """Writes nothing as a reference to something before, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(content: Object) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)
