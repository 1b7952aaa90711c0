from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from caloforge.errors import InputError
from caloforge.models.bundle import load_bundle


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_bundle_stands_on_its_own(bundle: Path) -> None:
    generator = load_bundle(bundle)
    assert generator.family == "vae"
    assert generator.geometry.n_voxels == 480
    assert not [path for path in bundle.iterdir() if path.suffix in (".pt", ".pkl", ".ckpt")]
    record = json.loads((bundle / "training.json").read_text())
    assert record["provenance"]["seed"] == 1
    assert record["stages"]["voxels"]["steps"] == 8
    assert "vae" in (bundle / "README.md").read_text()


@pytest.mark.parametrize("name", ["weights.safetensors", "transform.safetensors", "geometry.xml", "training.json"])
def test_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(InputError, match=f"file {name} is missing"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["weights.safetensors", "geometry.xml"])
def test_altered_file_is_named(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[-1] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: differs from what the bundle was saved with"):
        load_bundle(bundle)


def test_other_folders_and_formats(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a generator bundle"):
        load_bundle(tmp_path)
    config = json.loads((bundle / "config.json").read_text())
    (bundle / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(InputError, match="not a bundle of format 2"):
        load_bundle(bundle)
