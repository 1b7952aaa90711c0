from __future__ import annotations

import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.hdf5_rows import RowWriter, read_rows

NUMBERS = np.random.default_rng(0).gamma(1.0, size=(50, 7, 3))
NUMBERS[NUMBERS < 1] = 0


@pytest.mark.parametrize("kind", ["f4", "f8", "i2", ">f4"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}, {"compression": "lzf"}]
)
def test_rows_are_those_that_hdf5_reads(tmp_path: Path, kind: str, options: dict[str, object]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", data=NUMBERS.astype(kind), chunks=(8, 7, 3), **options)
        for start, stop in ((0, 50), (8, 16), (3, 21), (44, 60), (50, 60), (5, 5)):
            assert np.array_equal(read_rows(data, start, stop), NUMBERS.astype(kind)[start:stop])
            assert read_rows(data, start, stop).dtype == data.dtype


def test_rows_across_chunks_of_columns_too(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", data=NUMBERS, chunks=(8, 2, 3), compression="gzip")
        assert np.array_equal(read_rows(data, 3, 21), NUMBERS[3:21])


def test_rows_that_were_never_written_or_packed_are_those_that_hdf5_reads(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", shape=(20, 4), dtype="f4", chunks=(5, 4), compression="gzip", fillvalue=2.0)
        data[10:15] = 1
        assert np.array_equal(read_rows(data, 0, 20), data[:])


@pytest.mark.parametrize(("size", "what"), [(3 * 10**7, "more"), (50, "less")])
def test_a_chunk_that_is_not_as_large_as_it_says_is_not_taken_into_memory(tmp_path: Path, size: int, what: str) -> None:
    packed = zlib.compress(bytes(size))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("x", data=np.ones((20, 4), "f4"), chunks=(5, 4), compression="gzip")
        data.id.write_direct_chunk((5, 0), packed)
        tracemalloc.start()
        with pytest.raises(OSError, match=f"chunk of row 5 holds {what} than it says"):
            read_rows(data, 0, 20)
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.stop()
        assert np.array_equal(read_rows(data, 10, 20), np.ones((10, 4)))


@pytest.mark.parametrize("steps", [(50,), (1,) * 50, (3, 40, 7), (13, 13, 24)])
def test_what_is_written_in_parts_is_read_by_hdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...]
) -> None:
    monkeypatch.setattr("caloforge.hdf5_rows.CHUNK_BYTES", 13 * 7 * 3 * 4)
    values = NUMBERS.astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        writer, start = RowWriter(file, "x", (7, 3), np.dtype("f4")), 0
        for n in steps:
            writer.append(values[start : start + n])
            start += n
        writer.finish()
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["x"].chunks == (13, 7, 3)
        assert file["x"].compression == "gzip"
        assert np.array_equal(file["x"], values)
        assert np.array_equal(read_rows(file["x"], 0, 50), values)
