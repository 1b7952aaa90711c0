"""The address of the data: what this machine can tell of it, and what only the cluster can."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from healthy_cluster import SECRET, of
from object_store import ObjectStore, serving

from caloforge import fetch
from caloforge.errors import InputError
from caloforge.pipelines.doctor.doctor import examine, findings_table
from caloforge.pipelines.settings import PipelineSettings
from caloforge.pods import SecretKey

KEYS = {name: SecretKey(secret="s3", key=name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}

pytestmark = pytest.mark.usefixtures("no_cluster")

LOOK = fetch.look


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A store that lets the keys of this machine in."""
    monkeypatch.setattr("caloforge.fetch.look", LOOK)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(ObjectStore(**{"data/a.hdf5": bytes(2_500_000)})) as store:
        store.keys = {SECRET}
        yield store


def test_a_store_is_asked_and_nothing_is_downloaded(store: ObjectStore, settings: PipelineSettings) -> None:
    env = {"AWS_ENDPOINT_URL": store.url}
    found = said(settings, "ok", "s3://data/a.hdf5", env=env, secret_env={})
    assert "data s3://data/a.hdf5: is there and can be read from here, 2.5 MB" in found
    assert {method for method, _, _ in store.requests} == {"HEAD"}
    assert "nothing is there" in said(settings, "failed", "s3://data/nothing.hdf5", env=env, secret_env={})
    store.keys = {"others"}
    assert "access is denied" in said(settings, "failed", "s3://data/a.hdf5", env=env, secret_env={})
    assert "a step has the keys of Secret s3" in said(settings, "unknown", "s3://data/a.hdf5", env=env, secret_env=KEYS)
    assert store.sent == 0


def test_a_store_that_does_not_answer_here(store: ObjectStore, settings: PipelineSettings) -> None:
    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    assert "perhaps in the cluster" in said(settings, "unknown", "s3://data/a.hdf5", env=env, secret_env={})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments in which an address was looked at; nothing is there that is called nothing."""
    environments: list[dict[str, str]] = []

    def look(address: str) -> Any:
        environments.append({**os.environ, "address": address})
        if "nothing" in address:
            raise InputError(f"{address}: nothing is there")
        return SimpleNamespace(address=address, size=None if "unknown" in address else 27_262_976)

    monkeypatch.setattr("caloforge.fetch.look", look)
    return environments


def said(settings: PipelineSettings, state: str, address: str, **pod: Any) -> str:
    changed = settings.model_copy(update={"data": address, "pod": settings.pod.model_copy(update=pod)})
    return of(examine(settings=changed), "data", state)


def test_data_that_is_there(asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    assert "s3://data/a.hdf5: is there and can be read from here, 27.3 MB" in said(settings, "ok", "s3://data/a.hdf5")
    assert "read from here ->" in said(settings, "ok", "https://localhost/unknown.hdf5")
    assert [one["address"] for one in asked] == ["s3://data/a.hdf5", "https://localhost/unknown.hdf5"]


def test_data_that_is_not_there(asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    assert "data s3://data/nothing.hdf5: nothing is there" in said(
        settings, "failed", "s3://data/nothing.hdf5", secret_env={}
    )
    assert asked


def test_a_run_must_be_given_data(asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    assert "the settings name no data; a run must" in said(settings, "unknown", "")
    assert not asked


def test_passwords_of_addresses_are_not_shown(asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    address = f"https://me:{SECRET}@localhost/showers.hdf5?signature={SECRET}"
    found = examine(settings=settings.model_copy(update={"data": address}))
    assert "data https://localhost/showers.hdf5: is there" in of(found, "data", "ok")
    assert SECRET not in findings_table(found)


def test_it_is_asked_as_a_step_would(asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    env = {"AWS_ENDPOINT_URL": "http://localhost:9000", "AWS_REGION": "eu-west-1"}
    assert said(settings, "ok", "s3://data/a.hdf5", env=env)
    assert asked[0].items() >= env.items()
    assert "AWS_REGION" not in os.environ


@pytest.mark.parametrize("address", ["/data/showers.hdf5", "file:///data/run/showers.hdf5"])
def test_a_path_on_a_claim(address: str, asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    assert "on claim data, which only the cluster sees" in said(settings, "unknown", address)
    assert not asked


def test_a_path_on_no_claim(asked: list[dict[str, str]], settings: PipelineSettings) -> None:
    found = said(settings, "warning", "/database/showers.hdf5")
    assert "data /database/showers.hdf5: on no claim of the settings" in found
    assert "pod: {claims: {NAME: /database}}" in found
    assert not asked


@pytest.mark.parametrize(
    ("address", "env"),
    [
        ("s3://data/a.hdf5", {"AWS_ENDPOINT_URL": "http://minio-service.kubeflow:9000"}),
        ("minio://data/a.hdf5", {"S3_ENDPOINT": "minio-service.kubeflow:9000"}),
        ("http://minio-service.kubeflow/a.hdf5", {}),
    ],
)
def test_a_name_that_is_known_in_the_cluster_only(
    address: str,
    env: dict[str, str],
    asked: list[dict[str, str]],
    settings: PipelineSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
        if host == "minio-service.kubeflow":
            raise socket.gaierror(-2, "Name or service not known")
        return known(host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = said(settings, "unknown", address, env=env)
    assert "minio-service.kubeflow is not known here, perhaps in the cluster" in found
    assert not asked


def test_keys_that_are_only_in_a_secret(
    asked: list[dict[str, str]], settings: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever has keys here asks with them; what is refused then may be open to a step.
    found = said(settings, "unknown", "s3://data/nothing.hdf5", secret_env=KEYS)
    assert "nothing is there (here; a step has the keys of Secret s3)" in found
    assert len(asked) == 1
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "its keys are only in Secret s3" in said(settings, "unknown", "s3://data/a.hdf5", secret_env=KEYS)
    assert len(asked) == 1
    assert said(settings, "ok", "https://localhost/a.hdf5", secret_env=KEYS), "which needs no keys"
