import tomllib
from importlib.metadata import files
from importlib.resources import files as resources
from pathlib import Path

import pytest

from caloforge.models.engines import cpp_library
from caloforge.pipelines import version
from caloforge.pipelines.version import PACKAGES, code_version

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_package_list_is_the_tree() -> None:
    setuptools = PYPROJECT["tool"]["setuptools"]
    folders = {"caloforge": "src/caloforge"}
    for top in sorted(path.parent.name for path in ROOT.glob("*/__init__.py")):
        folders[f"caloforge.{top}"] = top
    nested = {
        f"{package}.{'.'.join(path.parent.relative_to(ROOT / folder).parts)}": str(path.parent.relative_to(ROOT))
        for package, folder in folders.items()
        for path in (ROOT / folder).rglob("__init__.py")
        if path.parent != ROOT / folder
    }
    assert setuptools["package-dir"] == folders | nested
    assert setuptools["packages"] == sorted(folders | nested)
    assert tuple(sorted(folders)) == PACKAGES, "caloforge.pipelines.version"
    banned = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert set(banned) == {name.partition(".")[2] for name in folders} - {""}


@pytest.mark.parametrize("folder", ["src/caloforge", *(path.parent.name for path in ROOT.glob("*/__init__.py"))])
def test_every_data_file_is_packaged(folder: str) -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["*"]
    packages = [path.parent for path in (ROOT / folder).rglob("__init__.py")]
    packaged = {path for package in packages for pattern in patterns for path in package.glob(pattern)}
    there = {
        path
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    sources = {ROOT / "serving" / "cpp" / name for name in cpp_library._FILES}
    there = {path for path in there if ROOT / "serving" / "cpp" not in path.parents} | (
        sources if folder == "serving" else set()
    )  # of C++ only what Python builds is installed: a header is copied
    assert there <= packaged


def test_the_demo_and_the_geometries_are_found() -> None:
    package = resources("caloforge")
    assert (package / "data" / "demo_showers.hdf5").is_file()
    for name in ("dataset_1_photons", "dataset_1_pions", "dataset_2", "dataset_3"):
        assert (package / "geometries" / f"{name}.xml").is_file()
    assert files("caloforge"), "installed"


def test_constraints_hold_for_every_build_of_torch() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert "torch==2.13.0" in lines
    assert not [line for line in lines if "+" in line or "@" in line or "==" not in line]
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    wanted = PYPROJECT["project"]["dependencies"] + PYPROJECT["project"]["optional-dependencies"]["dev"]
    names = {wish.split(">")[0].split("[")[0].lower().replace("_", "-") for wish in wanted}
    assert names <= pinned


def test_the_code_version_follows_the_code_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "toy_package"
    (folder / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/code.py", "inner/preset.yaml", "notes.txt"):
        (folder / name).write_text(name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(version, "PACKAGES", ("toy_package",))
    first = code_version()
    assert first.startswith(f"{version.__version__}+")
    (folder / "notes.txt").write_text("changed")
    (folder / "inner" / "code.pyc").write_text("compiled")
    assert code_version() == first
    seen = {first}
    for name in ("inner/code.py", "inner/preset.yaml"):
        (folder / name).write_text("changed")
        seen.add(code_version())
    (folder / "inner" / "new.py").touch()
    seen.add(code_version())
    assert len(seen) == 4
