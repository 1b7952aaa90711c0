"""GeV, keV or fractions in place of MeV are noticed; the response of a real calorimeter is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from caloforge.errors import InputError
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.showers import Showers, open_showers

Change = Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def changed(source: Path, path: Path, change: Change, *, threshold: bool = True) -> Showers:
    """Write showers whose (N, 1) incident energies and (N, V) voxels are changed."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        energy, voxels = change(file["incident_energies"][:].astype(float), file["showers"][:].astype(float))
        file["incident_energies"][:], file["showers"][:] = energy, voxels
        if not threshold:
            del file.attrs["energy_threshold"]
    return open_showers(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, v: (e, v / 1e3), "the showers hold 0.000.* of the incident energy, less than any calorimeter"),
        (lambda e, v: (e * 1e3, v), "less than any calorimeter.*incident energies in keV"),
        (lambda e, v: (e / 1e3, v), "times the incident energy: are the incident energies in GeV"),
        (lambda e, v: (e, v / e), "as if they were fractions"),
        (lambda e, v: (e / 1e3, v / e), "as if they were fractions"),
        (lambda e, v: (e / 1e3, v / 1e3), r"voxels under 0\.0.* MeV are 0, but \d\d% of its voxels with energy are"),
    ],
    ids=["voxels in GeV", "energies in keV", "energies in GeV", "fractions", "fractions of GeV", "all in GeV"],
)
def test_other_units_than_mev_are_refused(change: Change, message: str, small_showers: Path, tmp_path: Path) -> None:
    showers = changed(small_showers, tmp_path / "a.hdf5", change)
    with pytest.raises(InputError, match=rf"a\.hdf5: showers: .*{message}"):
        prepare(showers, tmp_path / "prepared")


def test_a_threshold_that_cuts_most_of_the_energy_is_refused(small_showers: Path, tmp_path: Path) -> None:
    showers = changed(small_showers, tmp_path / "a.hdf5", lambda e, v: (e / 1e3, v / 1e3), threshold=False)
    with pytest.raises(InputError, match=r"only [\d.]+% of the energy is in voxels above the threshold of 15 MeV"):
        prepare(showers, tmp_path / "prepared", settings=PrepareSettings(threshold=15))


def test_showers_of_low_energy_are_asked_about(
    small_showers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    showers = changed(small_showers, tmp_path / "a.hdf5", lambda e, v: (e / 1e3, v / 1e3), threshold=False)
    prepare(showers, tmp_path / "prepared", settings=PrepareSettings(threshold=1e-5))
    assert "if these are GeV, multiply all energies by 1000" in caplog.text


@pytest.mark.parametrize("share", [1.0, 0.03, 0.006])
def test_raw_deposits_are_taken(
    share: float, small_showers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    showers = changed(small_showers, tmp_path / "a.hdf5", lambda e, v: (e, v * share), threshold=False)
    settings = PrepareSettings(threshold=0.015 * share)
    assert prepare(showers, tmp_path / "prepared", settings=settings).threshold == settings.threshold
    assert "GeV" not in caplog.text


def test_who_knows_better_may_say_so(small_showers: Path, tmp_path: Path) -> None:
    showers = changed(small_showers, tmp_path / "a.hdf5", lambda e, v: (e, v * 1e-4), threshold=False)
    settings = PrepareSettings(threshold=1e-6, min_response=1e-5)
    assert prepare(showers, tmp_path / "prepared", settings=settings).threshold == 1e-6


def test_showers_without_energy_are_no_question_of_units(small_showers: Path, tmp_path: Path) -> None:
    showers = changed(small_showers, tmp_path / "a.hdf5", lambda e, v: (e, 0 * v))
    with pytest.raises(InputError, match=r"holds only 0 good showers \(\d+ no energy\)"):
        prepare(showers, tmp_path / "prepared")
