from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from caloforge.files import write_json
from caloforge.geometry import load_geometry
from caloforge.outputs import result_file, result_folder
from caloforge.result_kinds import REPORT
from caloforge.showers import Conditions, write_showers
from caloforge.space import NoSpace, space_told


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("Can't write data (file write failed: ..., errno = 28, error message = 'No space left on device')"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'),
        sqlite3.OperationalError("database or disk is full"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}"[:40],
)
def test_a_full_disk_is_one_line_whoever_met_it(error: Exception, tmp_path: Path) -> None:
    def write() -> None:
        with space_told(tmp_path):
            try:
                raise error
            except Exception as inner:
                raise RuntimeError("in a library") from inner

    with pytest.raises(
        NoSpace, match=rf"^no space left on {tmp_path}; make room there and give the same command again$"
    ):
        write()


def test_other_errors_are_what_they_are(tmp_path: Path) -> None:
    for error in (OSError(errno.EACCES, "no"), RuntimeError("shapes differ"), ValueError("x")):
        with pytest.raises(type(error)), space_told(tmp_path):
            raise error


def test_a_library_that_does_not_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write() -> None:
        with space_told(tmp_path):
            raise OSError("10 requested and 3 written")  # as NumPy does

    with pytest.raises(OSError, match="3 written"):
        write()
    monkeypatch.setattr(os, "statvfs", lambda _: type("Found", (), {"f_bavail": 1, "f_frsize": 4096}))
    with pytest.raises(NoSpace):
        write()


def _showers(path: Path) -> None:
    geometry = load_geometry("siw_demo")
    rng = np.random.default_rng(1)
    with write_showers(path, geometry, attributes={}, provenance={}) as writer:
        for _ in range(20):
            writer.append(Conditions(np.full(100, 1e4)), rng.random((100, geometry.n_voxels)))


def _plain(path: Path) -> None:
    with result_file(path) as temporary:
        temporary.write_bytes(bytes(300_000))


def _array(path: Path) -> None:
    with result_folder(path, REPORT) as folder:
        np.savez(folder / "a.npz", a=np.zeros(100_000))


def _json(path: Path) -> None:
    write_json(path, list(range(100_000)))


@pytest.mark.parametrize("write", [_showers, _plain, _array, _json], ids=lambda one: one.__name__)
def test_nothing_is_left_where_a_file_could_not_grow(write: Callable[[Path], None], tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(NoSpace, match="no space left on"):
            write(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    write(tmp_path / "out")  # there is room again
    assert (tmp_path / "out").exists()
