import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import ObjectStore, serving

from caloforge import fetch
from caloforge.errors import InputError
from caloforge.fetch import is_remote, local_copy, without_secrets

SHOWERS = bytes(range(256)) * 1000


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """Return a store to which the environment has the keys."""
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    with serving(ObjectStore()) as store:
        store.objects = {
            "physics/a/showers.hdf5": SHOWERS,
            "physics/prepared/prepared.json": b"{}",
            "physics/prepared/deep/splits.npz": b"123",
        }
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "name")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield store


def test_paths_stay_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "showers.hdf5"
    path.write_bytes(SHOWERS)
    assert local_copy(str(path), tmp_path / "copies") == path
    assert local_copy(f"file://{path}", tmp_path / "copies") == path
    assert not (tmp_path / "copies").exists()
    assert not is_remote(str(path))
    with pytest.raises(InputError, match="no such file"):
        local_copy(str(tmp_path / "absent"), tmp_path)
    with pytest.raises(InputError, match="its SHA-256 is"):
        local_copy(str(path), tmp_path, checksum="0" * 64)


@pytest.mark.parametrize("scheme", ["s3", "minio"])
def test_from_an_object_store(scheme: str, store: ObjectStore, tmp_path: Path) -> None:
    digest = hashlib.sha256(SHOWERS).hexdigest()
    path = local_copy(f"{scheme}://physics/a/showers.hdf5", tmp_path, checksum=digest)
    assert path == tmp_path / "showers.hdf5"
    assert path.read_bytes() == SHOWERS
    assert "Credential=name/" in store.requests[-1][2], "the keys of the environment sign the request"


def test_over_http(store: ObjectStore, tmp_path: Path) -> None:
    assert local_copy(f"{store.url}/physics/a/showers.hdf5?signature=abc", tmp_path).read_bytes() == SHOWERS
    assert "abc" not in (tmp_path / ".showers.hdf5.source.json").read_text()


def test_a_folder(store: ObjectStore, tmp_path: Path) -> None:
    folder = local_copy("minio://physics/prepared", tmp_path)
    assert (folder / "prepared.json").read_bytes() == b"{}"
    assert (folder / "deep" / "splits.npz").read_bytes() == b"123"


def test_fetched_again_only_when_it_has_changed(store: ObjectStore, tmp_path: Path) -> None:
    address = "s3://physics/a/showers.hdf5"

    def gets() -> int:
        local_copy(address, tmp_path)
        return sum(method == "GET" and "list-type" not in path for method, path, _ in store.requests)

    first = gets()
    assert gets() == first
    store.objects["physics/a/showers.hdf5"] = SHOWERS + b"more"
    assert gets() > first
    assert (tmp_path / "showers.hdf5").read_bytes() == SHOWERS + b"more"


def test_a_wrong_checksum_leaves_no_file(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its SHA-256 is"):
        local_copy("s3://physics/a/showers.hdf5", tmp_path, checksum="0" * 64)
    assert not list(tmp_path.iterdir())


def test_a_connection_that_breaks_is_tried_again(store: ObjectStore, tmp_path: Path) -> None:
    store.script = ["none", "none", "short"]
    path = local_copy(f"{store.url}/physics/a/showers.hdf5", tmp_path)
    assert path.read_bytes() == SHOWERS
    assert not store.script


def test_what_cannot_be_had(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(address: str) -> str:
        with pytest.raises(InputError) as error:
            local_copy(address, tmp_path)
        assert not list(tmp_path.iterdir())
        return str(error.value)

    assert "nothing is there" in refused("s3://physics/b/showers.hdf5")
    assert "nothing is there" in refused(f"{store.url}/physics/b/showers.hdf5")
    assert "use a path, s3://" in refused("sb://physics/b/showers.hdf5")
    assert "names no file" in refused("https://physics")
    store.script = [403] * 9
    assert "access is denied" in refused("s3://physics/a/showers.hdf5")
    store.script = []
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    text = refused("http://user:planted-secret@127.0.0.1:1/showers.hdf5?signature=planted-secret")
    assert "http://127.0.0.1:1/showers.hdf5: cannot be fetched" in text
    assert "planted-secret" not in text
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert "http://minio-service.kubeflow:9000" in refused("minio://mlpipeline/x")
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "pip install 'caloforge[s3]'" in refused("s3://elsewhere/x")


def test_what_is_shown_of_an_address() -> None:
    assert without_secrets("https://me:word@host:1/a/b.hdf5?sig=x") == "https://host:1/a/b.hdf5"
