from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import Field

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.files import atomic_directory, atomic_file, digest, read_json, sha256, write_json
from caloforge.provenance import provenance


class Base(Config, extra="allow"):
    sha256: str


class Content(Config):
    energies: Base | dict[None, None]
    parts: tuple[Base, ...] = ()
    name: str = Field(min_length=2)


class Inner(Config):
    width: int = 4


class Settings(Config):
    learning_rate: float = 1e-3
    network: Inner = Inner()


def test_file_appears_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "out.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"


def test_folder_is_replaced_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("old", "new"):
        with atomic_directory(target) as folder:
            (folder / "a.txt").write_text(text)

    def fail() -> None:
        with atomic_directory(target) as folder:
            (folder / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (target / "a.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_results_can_be_read_by_others_whatever_wrote_them(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from caloforge.files import atomic_directory, atomic_file

os.umask(0o027)
with atomic_directory(Path("folder")) as folder:
    save_file({"a": np.zeros(2)}, folder / "weights.safetensors")
    (folder / "below").mkdir()
    (folder / "below" / "text").write_text("")
with atomic_file(Path("file")) as path:
    save_file({"a": np.zeros(2)}, path)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert modes == {
        "folder": 0o750, "folder/weights.safetensors": 0o640, "folder/below": 0o750, "folder/below/text": 0o640,
        "file": 0o640,
    }  # fmt: skip


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write here"), atomic_file(tmp_path / "file" / "out"):
        pass


def test_unknown_key_offers_the_nearest() -> None:
    with pytest.raises(InputError, match=r"a.yaml: unknown key 'learning_rte'; did you mean 'learning_rate'"):
        Settings.parse({"learning_rte": 1}, where="a.yaml")
    with pytest.raises(InputError, match=r"did you mean 'network.width'"):
        Settings.parse({"network": {"widht": 1}}, where="a.yaml")
    with pytest.raises(InputError, match=r"learning_rate: "):
        Settings.parse({"learning_rate": "fast"}, where="a.yaml")
    with pytest.raises(InputError, match=r"expected keys and values, got list"):
        Settings.parse([1], where="a.yaml")


def test_messages_name_keys_and_no_classes() -> None:
    good = {"energies": {}, "name": "ab"}
    assert Content.parse(good, where="a").name == "ab"
    for changes, text in (
        ({"energies": None}, r"^a: energies: expected keys and values, got NoneType$"),
        ({"energies": {"other": 1}}, r"^a: energies\.sha256: Field required"),
        ({"parts": ["x"]}, r"^a: parts\.0: expected keys and values, got str$"),
        ({"parts": [{"sha256": "x"}, {"sha256": 3}]}, r"^a: parts\.1\.sha256: Input"),
        ({"name": ""}, r"^a: name: String"),
    ):
        with pytest.raises(InputError, match=text):
            Content.parse({**good, **changes}, where="a")
    with pytest.raises(InputError, match=r"^a: name: Field required"):
        Content.parse({"energies": {}}, where="a")


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("network: {width: 8}\n")
    assert Settings.from_yaml(path).network.width == 8
    path.write_text("a: [")
    with pytest.raises(InputError, match=r"not a YAML file"):
        Settings.from_yaml(path)


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1.5})
    assert read_json(tmp_path / "a.json") == {"x": 1.5}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match=r"not a JSON file"):
        read_json(tmp_path / "b.json")
    with pytest.raises(InputError, match=r"no such file"):
        read_json(tmp_path / "c.json")


def test_provenance_sums_its_inputs(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    record = provenance(inputs={"showers": path}, seed=7)
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(path) == record["inputs"]["showers"]["sha256"] == expected
    assert record["seed"] == 7


def test_the_digest_of_a_folder_is_that_of_its_sha256sums(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for name in ("config.json", "b/weights", "b.txt", "B"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    command = "cd bundle && sha256sum B b.txt b/weights config.json | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout[:64]
    found = digest(folder)
    assert found == (expected, len("config.jsonb/weightsb.txtB"))
    (folder / "empty").mkdir()
    assert digest(folder) == found, "a store of objects has no empty folders"
    (folder / "b/weights").rename(folder / "b/weight")
    assert digest(folder) != found, "names count"
    assert digest(folder / "B") == (sha256(folder / "B"), 1)
