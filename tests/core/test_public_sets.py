from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from object_store import ObjectStore, serving

from caloforge import public_sets
from caloforge.cli import main
from caloforge.errors import InputError
from caloforge.geometry import geometry_names
from caloforge.public_sets import PublicSet, fetch_set, find_set
from caloforge.space import NoSpace
from caloforge.store import Unreachable

CONTENT = {f"part_{i}.hdf5": b"\x89HDF\r\n\x1a\n" + bytes([i]) * 3_000_000 for i in (1, 2)}
MD5 = {name: hashlib.md5(content).hexdigest() for name, content in CONTENT.items()}


@pytest.fixture
def zenodo(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    """A server with one set of two files, known as ``small``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr("caloforge.patience.FIRST_PAUSE_SECONDS", 0.02)
    with serving(ObjectStore()) as store:
        store.objects = {f"records/7/files/{name}": content for name, content in CONTENT.items()}
        monkeypatch.setattr(public_sets, "ZENODO", store.url)
        one = PublicSet(about="small", doi="10.5281/zenodo.7", record=7, files=MD5)
        monkeypatch.setattr(public_sets, "public_sets", lambda: {"small": one})
        yield store


def test_every_set_that_has_a_name() -> None:
    sets = public_sets.public_sets()
    assert {name for name in sets if name.startswith("dataset")} <= {*geometry_names()}
    assert all(one.doi.startswith("10.5281/zenodo.") for one in sets.values())
    listed = CliRunner().invoke(main, ["fetch", "--list"])
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(sets)


def test_names_and_dois() -> None:
    with pytest.raises(InputError, match=r"unknown public set.*'dataset2'; did you mean 'dataset_2"):
        find_set("dataset2")
    assert find_set("https://doi.org/10.5281/zenodo.123").record == 123
    for words in (["fetch"], ["fetch", "--list", "dataset_2"]):
        assert CliRunner().invoke(main, words).exit_code == 2


def test_all_files_come_and_come_once(zenodo: ObjectStore, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    result = CliRunner().invoke(main, ["fetch", "small", "-o", str(folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(folder / name) for name in CONTENT]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT
    sent = zenodo.sent
    fetch_set("small", folder)
    assert zenodo.sent == sent


def test_a_connection_that_breaks_off_is_gone_on_from(zenodo: ObjectStore, tmp_path: Path) -> None:
    zenodo.script = ["none", "short"]
    (first, _) = fetch_set("small", tmp_path)
    assert first.read_bytes() == CONTENT["part_1.hdf5"]
    assert [headers for headers in zenodo.headers if "Range" in headers]


def test_a_fetch_that_was_killed_is_gone_on_from(zenodo: ObjectStore, tmp_path: Path) -> None:
    zenodo.seconds_per_block = 0.02
    code = (
        "import sys; from pathlib import Path; from caloforge import public_sets as p;"
        f"p.ZENODO = {zenodo.url!r};"
        f"p.public_sets = lambda: {{'small': p.PublicSet(about='', doi='', record=7, files={MD5!r})}};"
        "p.fetch_set('small', Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code, str(tmp_path)])
    partial = tmp_path / f".part_1.hdf5.{MD5['part_1.hdf5']}.partial"
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 100_000):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = partial.stat().st_size
    assert done < 3_000_000
    zenodo.headers.clear()
    zenodo.seconds_per_block = 0
    fetch_set("small", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == CONTENT
    asked = [headers["Range"] for headers in zenodo.headers if "Range" in headers]
    assert asked == [f"bytes={done}-"]


def test_a_wrong_checksum(zenodo: ObjectStore, tmp_path: Path) -> None:
    zenodo.objects["records/7/files/part_2.hdf5"] = CONTENT["part_2.hdf5"][:-1] + b"?"
    with pytest.raises(
        InputError, match=rf"part_2.hdf5: its MD5 is [0-9a-f]{{32}}, not {MD5['part_2.hdf5']}; what came is"
    ):
        fetch_set("small", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part_1.hdf5"]


def test_a_page_in_the_place_of_the_file(zenodo: ObjectStore, tmp_path: Path) -> None:
    zenodo.objects["records/7/files/part_1.hdf5"] = b"<html>please log in</html>" * 100_000
    with pytest.raises(InputError, match="not an HDF5 file"):
        fetch_set("small", tmp_path)
    assert not list(tmp_path.iterdir())


def test_not_enough_disk(zenodo: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(NoSpace, match=r"0.00 GB are needed, 0.00 GB are free"):
        fetch_set("small", tmp_path)
    assert not list(tmp_path.iterdir())
    assert not zenodo.sent


def test_what_somebody_else_put_there_stays(zenodo: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "part_1.hdf5").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"part_1.hdf5: there already, and not the file of small.*move it away"):
        fetch_set("small", tmp_path)
    assert (tmp_path / "part_1.hdf5").read_bytes() == b"mine"


def test_a_server_that_is_away(zenodo: ObjectStore, tmp_path: Path) -> None:
    zenodo.script = [503] * 100
    with pytest.raises(Unreachable, match=r"part_1.hdf5"):
        fetch_set("small", tmp_path, patience=0.1)


def test_a_record_says_its_files(zenodo: ObjectStore, tmp_path: Path) -> None:
    listed = [{"key": name, "checksum": f"md5:{md5}", "size": 3_000_008} for name, md5 in MD5.items()]
    zenodo.objects["api/records/7"] = json.dumps({"files": listed}).encode()
    fetch_set("10.5281/zenodo.7", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == CONTENT


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({}, "does not list files"),
        ({"files": []}, "lists no files"),
        ({"files": [{"key": "../a", "checksum": "md5:" + "0" * 32}]}, "does not list files"),
        ({"files": [{"key": "a", "checksum": "sha1:00"}]}, "checksum 'sha1:00' is no MD5"),
    ],
)
def test_a_record_that_says_something_else(answer: object, message: str, zenodo: ObjectStore, tmp_path: Path) -> None:
    zenodo.objects["api/records/7"] = json.dumps(answer).encode()
    with pytest.raises(InputError, match=message):
        fetch_set("10.5281/zenodo.7", tmp_path / "data")
    assert not (tmp_path / "data").exists()
