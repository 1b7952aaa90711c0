"""Manifests parse, kustomizations find their files, and KServe knows every field."""

import re
import warnings
from pathlib import Path
from typing import Any

import kubernetes.client.models
import pytest
import yaml

from caloforge import __version__
from caloforge.components.image import IMAGE

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of fastapi and protobuf, while kserve is imported
    import kserve.models

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted((ROOT / "manifests").rglob("*.yaml"))
OBJECTS = {
    "ServingRuntime": "V1alpha1ServingRuntime",
    "InferenceService": "V1beta1InferenceService",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
}


def check_fields(value: Any, type_name: str, where: str) -> None:
    """Walk through an object along the client library's models; an unknown field fails."""
    if match := re.fullmatch(r"(list|dict)[\[(](?:str, )?(.+)[\])]", type_name):
        items = enumerate(value) if match[1] == "list" else value.items()
        for key, item in items:
            check_fields(item, match[2], f"{where}[{key}]")
        return
    model = getattr(kserve.models, type_name, None) or getattr(kubernetes.client.models, type_name, None)
    if model is None:
        return  # a number, a string, or a type without fields
    fields = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    for key, item in value.items():
        assert key in fields, f"{where}: {type_name} has no field {key!r}"
        check_fields(item, fields[key], f"{where}.{key}")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_manifest_is_a_known_object(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    if content["kind"] == "Kustomization":
        for resource in content["resources"]:
            target = path.parent / resource
            assert (target / "kustomization.yaml").is_file() if target.is_dir() else target.is_file(), resource
    else:
        check_fields(content, OBJECTS[content["kind"]], path.name)


def test_no_manifest_is_left_out() -> None:
    for path in MANIFESTS:
        if path.name != "kustomization.yaml":
            listed = yaml.safe_load((path.parent / "kustomization.yaml").read_text())["resources"]
            assert path.name in listed


def test_the_check_finds_an_unknown_field() -> None:
    content = yaml.safe_load((ROOT / "manifests/kserve/servingruntime.yaml").read_text())
    content["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(AssertionError, match="V1Container has no field 'readynessProbe'"):
        check_fields(content, "V1alpha1ServingRuntime", "servingruntime.yaml")


def test_the_service_uses_the_runtime_and_the_image_of_this_version() -> None:
    runtime = yaml.safe_load((ROOT / "manifests/kserve/servingruntime.yaml").read_text())
    service = yaml.safe_load((ROOT / "manifests/kserve/inferenceservice.yaml").read_text())
    model = service["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
    assert runtime["spec"]["containers"][0]["image"] == IMAGE


@pytest.mark.parametrize("path", ["docker/README.md", "docker/Dockerfile"])
def test_the_image_has_the_version_of_the_package(path: str) -> None:
    versions = re.findall(r"(?:python-caloforge:|VERSION=)(\d+\.\d+\.\d+)", (ROOT / path).read_text())
    assert versions
    assert set(versions) == {__version__}
