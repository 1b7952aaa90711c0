from pathlib import Path
from typing import Any

import pytest

from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.index import Artifact, Index, Record

ARTIFACT = {
    "step": "train", "family": "vae", "name": "bundle", "address": "minio://mlpipeline/run/train/bundle",
    "kind": "folder", "sha256": "0" * 64, "bytes": 7,
}  # fmt: skip
FACTS: dict[str, Any] = {"families": ["wgan", "vae"], "pipeline": "caloforge", "run": "1", "caloforge": "0.1.0"}


def _record(**named: Any) -> str:
    return Record.parse(named, where="test").model_dump_json()


def test_records_are_joined_in_their_order() -> None:
    data = {"address": "s3://data/showers.hdf5", "size": 3}
    quality = {**ARTIFACT, "step": "preprocess", "family": None, "name": "quality", "kind": "file"}
    records = [
        _record(step="preprocess", data=data, artifacts=[quality]),
        _record(step="train", family="vae", artifacts=[ARTIFACT]),
    ]
    index = Index.gather(records, **FACTS)
    assert [one.name for one in index.artifacts] == ["quality", "bundle"]
    assert index.families == ("wgan", "vae"), "the order of the iterations"
    assert index.data is not None
    assert (index.data.address, index.data.size, index.data.sha256) == ("s3://data/showers.hdf5", 3, "")


def test_a_family_fails_where_it_failed_first() -> None:
    records = [
        _record(step="train", family="wgan", failed="it diverged"),
        _record(step="generate", family="wgan", failed="no generator: it diverged"),
    ]
    [failure] = Index.gather(records, **FACTS).failed
    assert (failure.family, failure.step, failure.reason) == ("wgan", "train", "it diverged")


@pytest.mark.parametrize("name", ["..", "../vae", "/vae", "a/b", "a\\b", ".vae", "", "a b", "vae\n", "-o"])
@pytest.mark.parametrize("key", ["family", "step", "name"])
def test_names_that_could_lead_elsewhere_are_refused(key: str, name: str) -> None:
    with pytest.raises(InputError, match=f"index: {key}: .*not a plain name"):
        Artifact.parse({**ARTIFACT, key: name}, where="index")


@pytest.mark.parametrize("address", ["minio://b/../c", "s3://b/..", "", "s3://b/\x1b[2J", "s3://b\\..\\c"])
def test_addresses_that_could_lead_elsewhere_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="is not an address"):
        Artifact.parse({**ARTIFACT, "address": address}, where="index")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"index": 2, "later": True}, "is an index of format 2, not 1; was it written by another version"),
        ({"winner": "vae"}, "is no index of a run"),
        ([], "is no index of a run"),
        ({"index": 1, **FACTS, "artifacts": [{**ARTIFACT, "sha256": "short"}]}, r"artifacts.0.sha256"),
        ({"index": 1, **FACTS, "artifacts": [{**ARTIFACT, "bytes": -1}]}, r"artifacts.0.bytes"),
    ],
)
def test_what_is_no_index_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    write_json(tmp_path / "index", content)
    with pytest.raises(InputError, match=f"^s3://b/index: {message}"):
        Index.read(tmp_path / "index", where="s3://b/index")


def test_an_index_is_read_as_it_was_written(tmp_path: Path) -> None:
    index = Index.gather([_record(step="train", family="vae", artifacts=[ARTIFACT])], url="http://calo", **FACTS)
    write_json(tmp_path / "index", index.model_dump(mode="json"))
    assert Index.read(tmp_path / "index") == index
