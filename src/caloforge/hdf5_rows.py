"""Rows of HDF5 datasets, compressed and decompressed by Intel's ISA-L in place of HDF5's own zlib.

What is written is HDF5's usual gzip filter, which every tool reads; ISA-L compresses it six times as fast. The bytes of
numbers are not shuffled: most voxels are 0, and runs of zeros are longer without it.
"""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

CHUNK_BYTES = 2**20
"""About how much of a dataset is compressed together."""

_LEVEL = 1


class RowWriter:
    """Append rows to a new dataset; the last ones are written by :meth:`finish`."""

    def __init__(self, file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Make the dataset, of 0 rows.

        Args:
            file: open for writing.
            name: of the dataset.
            shape: of one row.
            dtype: of the numbers.
        """
        self._rows = max(1, min(1024, CHUNK_BYTES // (dtype.itemsize * math.prod(shape))))
        self._dataset = file.create_dataset(
            name, shape=(0, *shape), maxshape=(None, *shape), dtype=dtype, chunks=(self._rows, *shape),
            compression="gzip", compression_opts=_LEVEL,
        )  # fmt: skip
        self._rest = np.empty((0, *shape), dtype)

    def append(self, values: NDArray[Any]) -> None:
        """Add (n, ...) rows."""
        start = 0
        if len(self._rest):
            start = self._rows - len(self._rest)
            self._rest = np.concatenate([self._rest, values[:start]])
            if len(self._rest) < self._rows:
                return
            self._write(self._rest)
        while len(values) - start >= self._rows:
            self._write(values[start : start + self._rows])
            start += self._rows
        self._rest = values[start:].copy()

    def finish(self) -> None:
        """Write the rows that fill no chunk."""
        if len(self._rest):
            self._write(self._rest)
            self._rest = self._rest[:0]

    def _write(self, rows: NDArray[Any]) -> None:
        dataset, before = self._dataset, len(self._dataset)
        whole = rows
        if len(rows) < self._rows:  # HDF5 keeps whole chunks
            whole = np.zeros((self._rows, *rows.shape[1:]), rows.dtype)
            whole[: len(rows)] = rows
        dataset.resize(before + len(rows), axis=0)
        packed = isal_zlib.compress(np.ascontiguousarray(whole, dataset.dtype).data.cast("B"), _LEVEL)
        dataset.id.write_direct_chunk((before,) + (0,) * (rows.ndim - 1), packed)


def read_rows(dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Return rows of a dataset, as ``dataset[start:stop]`` does.

    Args:
        dataset: N rows.
        start: first of them.
        stop: after the last; there may be fewer.

    Raises:
        OSError: a chunk is not as large as the file says.
    """
    stop = min(stop, len(dataset))
    shuffled = _packed(dataset)
    if shuffled is None or start >= stop:
        return np.asarray(dataset[start:stop])
    rows, kind = dataset.chunks[0], dataset.dtype
    n_bytes = math.prod(dataset.chunks) * kind.itemsize
    result = np.empty((stop - start, *dataset.shape[1:]), kind)
    for first in range(start - start % rows, stop, rows):
        try:
            skipped, packed = dataset.id.read_direct_chunk((first,) + (0,) * (dataset.ndim - 1))
            # One byte more tells what holds more than it says, which may be more than there is memory.
            plain: Any = isal_zlib.decompressobj().decompress(packed, n_bytes + 1)
        except (OSError, RuntimeError, isal_zlib.error):  # type: ignore[misc]  # never written, or damaged: HDF5 knows
            return np.asarray(dataset[start:stop])
        if skipped:
            return np.asarray(dataset[start:stop])
        if len(plain) != n_bytes:
            raise OSError(f"the chunk of row {first} holds {'more' if len(plain) > n_bytes else 'less'} than it says")
        if shuffled:
            plain = _unshuffled(plain, kind.itemsize)
        chunk = np.frombuffer(plain, kind).reshape(dataset.chunks)
        low, high = max(start, first), min(stop, first + rows)
        result[low - start : high - start] = chunk[low - first : high - first]
    return result


def _unshuffled(plain: bytes, size: int) -> NDArray[np.uint8]:
    """Return the bytes of numbers of so many bytes in their order: HDF5's shuffle puts all first bytes first."""
    numbers = np.empty((len(plain) // size, size), np.uint8)
    for place, one in enumerate(np.frombuffer(plain, np.uint8).reshape(size, -1)):
        numbers[:, place] = one  # three times as fast as a transposition
    return numbers


def _packed(dataset: h5py.Dataset) -> bool | None:
    """Return whether the bytes of a dataset are shuffled; None if its chunks are no rows packed by gzip alone."""
    if dataset.chunks is None or dataset.chunks[1:] != dataset.shape[1:] or dataset.dtype.kind not in "iuf":
        return None
    created = dataset.id.get_create_plist()
    codes = [created.get_filter(number)[0] for number in range(created.get_nfilters())]
    if codes == [h5py.h5z.FILTER_DEFLATE]:
        return False
    return True if codes == [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE] else None
