"""Where the trials of a search find showers that are several files."""

from pathlib import Path

import pytest

from caloforge.cli.inputs import trials_address
from caloforge.errors import InputError
from caloforge.result_kinds import TUNING
from caloforge.showers import Showers, open_showers, write_showers


def _copy(showers: Showers, path: Path) -> Path:
    attributes = {"energy_threshold": showers.threshold}
    with write_showers(path, showers.geometry, attributes=attributes, provenance={}) as writer:
        writer.append(showers.conditions, showers.read())
    return path


def _address(files: list[Path], output: Path, *, cluster: bool = False) -> str:
    addresses = [str(path) for path in files]
    return trials_address(addresses, [], cluster=cluster, output=output, kind=TUNING, overwrite=False)


@pytest.fixture
def parts(small_showers: Path, tmp_path: Path) -> list[Path]:
    showers = open_showers(small_showers)
    return [_copy(showers.select(range(a, a + 20)), tmp_path / f"{a}.hdf5") for a in (0, 20)]


def test_a_search_that_goes_on_finds_its_one_file_again(parts: list[Path], tmp_path: Path) -> None:
    first = _address(parts, tmp_path / "out")
    assert Path(first).is_relative_to(tmp_path / "out")
    assert len(open_showers(Path(first))) == 40
    changed = Path(first).stat().st_mtime_ns
    assert _address(parts, tmp_path / "out") == first
    assert Path(first).stat().st_mtime_ns == changed


def test_one_file_stays_where_it_is(parts: list[Path], tmp_path: Path) -> None:
    assert _address(parts[:1], tmp_path / "out") == str(parts[0])
    assert not (tmp_path / "out").exists()


def test_a_folder_of_others_is_refused_before_anything_is_written(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        _address(parts, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_pods_take_one_file(parts: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="caloforge convert makes one of several"):
        _address(parts, tmp_path / "out", cluster=True)
