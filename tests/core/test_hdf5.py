"""Files of others: what HDF5 would make up, and what h5py raises, is one line with the file and the dataset."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.showers import open_showers

N, V = 60, 368


def write(path: Path, **changes: Any) -> Path:
    """Write a file that is right but for the changes; None leaves a dataset out."""
    columns = {"incident_energies": np.full((N, 1), 1e4), "showers": np.full((N, V), 1.0, "f4"), **changes}
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if values is not None:
                file[name] = values
    return path


def read(path: Path) -> None:
    showers = open_showers(path)
    _ = showers.conditions
    showers.read()


def test_the_file_that_the_others_are_made_of_is_right(tmp_path: Path) -> None:
    read(write(tmp_path / "a.hdf5"))
    read(write(tmp_path / "b.hdf5", incident_energies=np.full(N, 1e4), incident_theta=np.full(N, 0.5)))


COLUMNS: list[tuple[dict[str, Any], str]] = [
    ({"incident_energies": np.full(N, b"1e4")}, "incident_energies: expected numbers, found texts"),
    ({"incident_energies": np.zeros(N, [("e", "f4")])}, "incident_energies: expected numbers, found compound values"),
    ({"incident_energies": np.ones((N, 1), bool)}, "incident_energies: expected numbers, found"),
    ({"incident_energies": np.ones((N, 1), complex)}, "incident_energies: expected numbers, found"),
    ({"incident_energies": h5py.Empty("f4")}, "incident_energies: expected numbers, found nothing"),
    ({"incident_energies": np.float64(1e4)}, "incident_energies has 1 rows but showers has 60"),
    ({"incident_energies": np.full((1, N), 1e4)}, r"incident_energies: expected shape \(60, 1\), got \(1, 60\)"),
    ({"incident_energies": np.full((N, 1), 1e300)}, "incident_energies: row 0 is 1e.300; 60 of 60 are not between"),
    ({"incident_energies": np.full((N, 1), 1e-300)}, "incident_energies: row 0 is 1e-300"),
    ({"incident_energies": h5py.SoftLink("/gone")}, "incident_energies: is a link to /gone, which is not there"),
    ({"showers": h5py.ExternalLink("gone.hdf5", "/showers")}, "showers: is a link to /showers of gone.hdf5"),
    ({"showers": np.ones((N, 23, 16), "f4")}, r"showers: expected shape \(N, voxels\)"),
    ({"incident_theta": np.full((N, 1), np.nan)}, "incident_theta: row 0 is nan"),
    ({"incident_theta": np.full((N, 1), -0.1)}, "incident_theta: row 0 is -0.1"),
    ({"incident_theta": np.full((N, 1), 90.0)}, "incident_theta: row 0 is 90; .* 0 and 3.14.* rad"),
    ({"incident_theta": np.full((N, 2), 1.0)}, r"incident_theta: expected shape \(60, 1\), got \(60, 2\)"),
    ({"incident_phi": np.full((N, 1), np.inf)}, "incident_phi: row 0 is inf"),
    ({"incident_phi": np.full((N, 1), 180.0)}, "incident_phi: row 0 is 180"),
    ({"incident_phi": np.full((N, 1), b"x")}, "incident_phi: expected numbers"),
    ({"incident_eta": np.full((N, 1), np.nan)}, "incident_eta: row 0 is nan"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), COLUMNS, ids=[message for _, message in COLUMNS])
def test_a_column_that_is_none_is_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.hdf5: {message}") as error:
        read(write(tmp_path / "a.hdf5", **changes))
    assert "\n" not in str(error.value)


def test_a_group_is_no_dataset(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    with h5py.File(path, "a") as file:
        file.create_group("showers")
    with pytest.raises(InputError, match=r"showers: is a group"):
        read(path)


def virtual(path: Path, rows: int = N) -> None:
    layout = h5py.VirtualLayout((N, V), "f4")
    layout[:rows] = h5py.VirtualSource("part.hdf5", "showers", (N, V))[:rows]
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("showers", layout)


def test_a_virtual_dataset_reads_its_sources(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    write(tmp_path / "part.hdf5")
    virtual(path)
    assert open_showers(path).read().min() == 1


def test_a_virtual_dataset_whose_source_is_missing_is_not_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    virtual(path)
    with pytest.raises(
        InputError, match=r"a\.hdf5: showers: is joined from other files, and .*part\.hdf5 of them is not"
    ):
        read(path)
    write(tmp_path / "part.hdf5", showers=None)
    with pytest.raises(InputError, match=r"part\.hdf5 has no showers"):
        read(path)


def test_a_virtual_dataset_with_a_hole_is_not_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    write(tmp_path / "part.hdf5")
    virtual(path, rows=N // 2)
    with pytest.raises(InputError, match=r"showers: only 11040 of its 22080 numbers have a source"):
        read(path)


def test_files_that_a_pattern_names_are_joined(tmp_path: Path) -> None:
    """Area detectors write one file after the other, and a virtual dataset of all that will come."""
    path, endless = write(tmp_path / "a.hdf5", showers=None), h5py.h5s.UNLIMITED
    for number in (0, 1):
        write(tmp_path / f"part-{number}.hdf5", showers=np.full((N // 2, V), 1 + number, "f4"))
    with h5py.File(path, "a") as file:
        rows = h5py.h5s.create_simple((N, V), (endless, V))
        rows.select_hyperslab((0, 0), (endless, 1), (N // 2, V), (N // 2, V))
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_virtual(rows, b"part-%b.hdf5", b"showers", h5py.h5s.create_simple((N // 2, V)))
        whole = h5py.h5s.create_simple((N, V), (endless, V))
        h5py.h5d.create(file.id, b"showers", h5py.h5t.IEEE_F32LE, whole, created)
    assert open_showers(path).read()[:, 0].tolist() == [1] * (N // 2) + [2] * (N // 2)
    (tmp_path / "part-0.hdf5").unlink()
    with pytest.raises(InputError, match=r"joined from other files, and .*part-0\.hdf5 of them is not there"):
        read(path)


def external(path: Path, present: int) -> None:
    (path.parent / "raw.bin").write_bytes(np.ones(present, "f4").tobytes())
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", (N, V), "f4", external=[("raw.bin", 0, 4 * N * V)], efile_prefix="${ORIGIN}")


@pytest.mark.parametrize(("file", "source"), [(".", "showers"), ("a.hdf5", "alias"), ("b.hdf5", "showers")])
def test_a_virtual_dataset_that_is_its_own_source_does_not_crash(file: str, source: str, tmp_path: Path) -> None:
    """HDF5 follows it until the stack is full."""
    for name, first in (("a", (file, source)), ("b", ("a.hdf5", "showers"))):
        path = write(tmp_path / f"{name}.hdf5", showers=None)
        with h5py.File(path, "a") as opened:
            opened["alias"] = h5py.SoftLink("/showers")
            layout = h5py.VirtualLayout((N, V), "f4")
            layout[:] = h5py.VirtualSource(*first, (N, V))
            opened.create_virtual_dataset("showers", layout)
    with pytest.raises(InputError, match="is joined from itself"):
        read(tmp_path / "a.hdf5")


def test_the_cut_off_end_of_an_external_file_is_not_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.hdf5", showers=None)
    external(path, N * V)
    read(path)
    (tmp_path / "raw.bin").write_bytes(b"\0" * 100)
    with pytest.raises(InputError, match=r"showers: its data are in .*raw\.bin, which is cut off \(100 bytes\)"):
        read(path)
    (tmp_path / "raw.bin").unlink()
    with pytest.raises(InputError, match=r"showers: its data are in .*raw\.bin, which is not there"):
        read(path)


def test_what_was_never_written_is_not_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", (N, V), "f4", chunks=(10, V))
    with pytest.raises(InputError, match=r"showers: was made and never filled"):
        read(path)


@pytest.mark.parametrize("name", ["showers", "incident_energies"])
def test_chunks_that_were_never_written_are_not_made_up(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", **{name: None})
    width = V if name == "showers" else 1
    with h5py.File(path, "a") as file:
        data = file.create_dataset(name, (N, width), "f4", chunks=(7, width), fillvalue=9, compression="gzip")
        data[:20] = 1e4
    with pytest.raises(
        InputError, match=rf"{name}: only 3 of its 9 chunks were written, the rest would be 9; its writer"
    ):
        read(path)
    with h5py.File(path, "a") as file:
        file[name][:] = 1e4
    read(path)


def test_chunks_that_no_memory_holds_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    with h5py.File(path, "a") as file:
        data = file.create_dataset(
            "showers", (N, V), "f4", chunks=(1_000_000, V), maxshape=(None, V), compression="gzip"
        )
        data.id.write_direct_chunk((0, 0), zlib.compress(np.ones((N, V), "f4").tobytes()))
    monkeypatch.setattr("caloforge.hdf5.memory_limit", lambda: 4 * 10**9)
    with pytest.raises(InputError, match=r"showers: is stored in chunks of 1\.5 GB, .*h5repack -l showers:CHUNK="):
        read(path)


def test_an_absurd_number_of_showers_is_no_use_of_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", (10**13, V), "f4", chunks=(10, V))[:10] = 1
    with pytest.raises(InputError, match=r"showers: says that it is 10000000000000 x 368 numbers, but 14720 bytes"):
        read(path)


def test_a_damaged_chunk_is_named_with_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    noise = np.random.default_rng(0).random((N, V), "f4")
    with h5py.File(path, "a") as file:
        file.create_dataset("showers", data=noise, chunks=(20, V), compression="gzip")
        chunk = file["showers"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 20 : chunk.byte_offset + chunk.size - 20] = bytes(chunk.size - 40)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.hdf5: showers, rows 0 to 59: cannot be read \(.*\); is the file whole"):
        read(path)


def test_a_locked_file_is_not_called_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5")
    with (
        h5py.File(path, "a"),
        pytest.raises(InputError, match=r"a\.hdf5: another process has it open for writing") as error,
    ):
        _in_another_process(path)
    assert "damaged" not in str(error.value)


def _in_another_process(path: Path) -> None:
    """Read it as another process does: HDF5 shares the lock within one."""
    code = "import sys, pathlib; from caloforge.showers import open_showers; open_showers(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-P", "-c", code, str(path)], capture_output=True, text=True, check=False)
    raise InputError(done.stderr.splitlines()[-1])


@pytest.mark.parametrize("cut", [0, 8, 100, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_one_line(cut: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5")
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content)) if isinstance(cut, float) else cut])
    with pytest.raises(InputError, match=r"a\.hdf5: (cut off|not an HDF5 file|showers)"):
        read(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.hdf5")
    with pytest.raises(InputError, match=r"a\.hdf5: not a regular file"):
        read(tmp_path / "a.hdf5")


def test_attributes_that_nobody_needs_are_no_hindrance(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.attrs["source"] = np.bytes_("Université".encode("latin-1"))
        file.attrs.create("group", b"Universit\xe9", dtype=h5py.string_dtype())
        file.attrs["reference"] = file.ref
    showers = open_showers(path)
    assert showers.attributes["source"] == "Université"
    assert str(showers.attributes["group"]).isprintable()


@pytest.mark.parametrize(
    ("where", "unit", "message"),
    [
        ("/", "GeV", "showers|incident_energies"),
        ("showers", b"GeV", "showers"),
        ("incident_energies", "energy in keV", "incident_energies"),
        ("incident_theta", "degrees", "incident_theta"),
    ],
)  # fmt: skip
def test_a_file_that_says_that_it_is_in_other_units_is_believed(
    where: str, unit: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.hdf5", incident_theta=np.full(N, 0.5))
    with h5py.File(path, "a") as file:
        file[where].attrs["units"] = unit
    with pytest.raises(InputError, match=rf"({message}): says that its unit is"):
        read(path)
    with h5py.File(path, "a") as file:
        file[where].attrs["units"] = "MeV (deposits were in GeV); rad"
    read(path)


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", showers=None)
    with h5py.File(path, "a") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((N, V))
        created.set_filter(32001, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((N, V))
        made = h5py.h5d.create(file.id, b"showers", h5py.h5t.NATIVE_FLOAT, space, dcpl=created)
        made.write_direct_chunk((0, 0), b"packed")
    with pytest.raises(InputError, match=r"showers: compressed with the filter .*32001.*h5repack"):
        read(path)
