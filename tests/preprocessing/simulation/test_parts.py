from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

from caloforge.conditions import Conditions
from caloforge.errors import InputError
from caloforge.preprocessing.simulation.parts import (
    EXTRA,
    at_work,
    missing,
    parts_of,
    remove,
    wait_for_workers,
    write_part,
)


def part(folder: Path, first: int, count: int) -> None:
    write_part(
        folder, first, conditions=Conditions(np.arange(first + 1.0, first + count + 1)),
        voxels=np.full((count, 3), first, np.float32),
        extra={name: np.full(count, first, np.float32) for name in EXTRA}, geant4="11.4.1",
    )  # fmt: skip


def test_what_is_written_is_read(tmp_path: Path) -> None:
    part(tmp_path, 7, 2)
    (found,) = parts_of(tmp_path)
    conditions, voxels, extra = found.read(3)
    assert (found.first, found.count, found.geant4) == (7, 2, "11.4.1")
    assert list(conditions.incident_energy) == [8, 9]
    assert voxels.tolist() == [[7] * 3] * 2
    assert extra.keys() == set(EXTRA)


@pytest.mark.parametrize("damage", ["cut", "empty", "pickle", "other mesh", "no voxels"])
def test_a_damaged_part_is_one_line(damage: str, tmp_path: Path) -> None:
    part(tmp_path, 7, 2)
    (found,) = parts_of(tmp_path)
    with np.load(found.path) as file:
        columns = dict(file)
    if damage == "cut":
        found.path.write_bytes(found.path.read_bytes()[:700])
    elif damage == "empty":
        found.path.write_bytes(b"")
    elif damage == "pickle":
        found.path.write_bytes(pickle.dumps(columns))
    else:
        columns["voxels"] = columns["voxels"][:, :2]
        np.savez(
            found.path,
            **{name: values for name, values in columns.items() if damage == "other mesh" or name != "voxels"},
        )
    with pytest.raises(
        InputError, match=r"showers-000000007-2.npz: damaged .*remove it and give the same command again"
    ):
        found.read(3)


def test_the_numbers_that_are_missing(tmp_path: Path) -> None:
    assert list(missing(parts_of(tmp_path), 5)) == [range(5)]
    part(tmp_path, 2, 3)
    part(tmp_path, 8, 1)
    assert [(one.start, one.stop) for one in missing(parts_of(tmp_path), 20)] == [(0, 2), (5, 8), (9, 20)]
    assert [(one.start, one.stop) for one in missing(parts_of(tmp_path), 7)] == [(0, 2), (5, 7)]
    assert list(missing(parts_of(tmp_path), 2)) == [range(2)]


def test_workers_of_a_killed_run_are_waited_for(tmp_path: Path) -> None:
    wait_for_workers(tmp_path)
    waiting = threading.Thread(target=wait_for_workers, args=(tmp_path,))
    with at_work(tmp_path), at_work(tmp_path):
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
    waiting.join(30)
    assert not waiting.is_alive()


def test_files_of_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    part(folder, 0, 1)
    remove(folder)
    assert not folder.exists()
    folder.mkdir()
    part(folder, 0, 1)
    (folder / "notes.txt").write_text("mine")
    remove(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
