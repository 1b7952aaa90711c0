from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.files import read_json, write_json
from caloforge.preprocessing.prepare import PrepareSettings, prepare
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.showers import open_showers
from caloforge.source import Source

pytestmark = pytest.mark.slow


def damaged(source: Path, path: Path) -> Path:
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        showers = file["showers"]
        showers[3, 7] = np.nan
        showers[5, 0] = -1.0
        showers[8, :] = 0
        showers[11, 100] = 1e7
        showers[12, 100] = 1e7
    return path


def test_bad_showers_are_dropped_and_counted(small_showers: Path, tmp_path: Path) -> None:
    path = damaged(small_showers, tmp_path / "bad.hdf5")
    prepared = prepare(open_showers(path), tmp_path / "prepared", seed=2)
    assert prepared.record["quality"]["dropped"] == {
        "NaN or infinite energy": 1,
        "negative energy": 1,
        "no energy": 1,
        "more energy than possible": 2,
    }
    rows = np.sort(np.concatenate(list(prepared.splits.values())))
    assert rows.tolist() == [i for i in range(300) if i not in (3, 5, 8, 11, 12)]
    assert "| more energy than possible | 2 |" in (tmp_path / "prepared" / "quality.md").read_text()


def test_splits_depend_on_the_seed_alone(small_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(small_showers)
    first, same, other = (prepare(showers, tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2)))
    assert all(np.array_equal(first.splits[name], same.splits[name]) for name in first.splits)
    assert not np.array_equal(first.splits["train"], other.splits["train"])
    assert [len(first.splits[name]) for name in ("train", "validation", "test")] == [180, 60, 60]


def test_no_shower_is_copied(small_showers: Path, small_prepared: Path) -> None:
    view = open_split(small_showers, small_prepared, "test")
    assert view.path == small_showers
    assert sum(f.stat().st_size for f in small_prepared.iterdir()) < 0.3 * small_showers.stat().st_size
    record = read_json(small_prepared / "prepared.json")
    assert record["provenance"]["inputs"]["showers"]["file"] == "small.hdf5"
    assert record["phi_symmetric"] is True


def test_particles_are_a_condition_that_leaves_a_sample_symmetric(
    small_showers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "particles.hdf5"
    path.write_bytes(small_showers.read_bytes())
    with h5py.File(path, "r+") as file:
        file["incident_pdg"] = np.resize([22, 22, -11], 300)
    prepared = prepare(open_showers(path), tmp_path / "prepared", seed=1)
    assert prepared.conditions == ("incident_energy", "particle")
    assert prepared.domains["particle"].values == (-11, 22)
    assert prepared.phi_symmetric
    assert set(np.unique(np.asarray(prepared.conditions_of("test").particle))) == {-11, 22}
    assert "particles.hdf5: only 100 showers of e+; a generator learns little of them" in caplog.text
    record = read_json(prepared.path / "prepared.json")
    write_json(prepared.path / "prepared.json", {**record, "format": 1})
    with pytest.raises(InputError, match="prepared by an older version; run caloforge preprocess again"):
        load_prepared(prepared.path)
    conditions = {"incident_energy": {"low": 5, "high": 1}}
    write_json(prepared.path / "prepared.json", {**record, "conditions": conditions})
    with pytest.raises(InputError, match=r"prepared.json: conditions.incident_energy: low is above high"):
        load_prepared(prepared.path)


def test_conditions_are_kept_for_what_is_generated(small_showers: Path, tmp_path: Path) -> None:
    path = tmp_path / "angles.hdf5"
    path.write_bytes(small_showers.read_bytes())
    with h5py.File(path, "r+") as file:
        file["incident_theta"] = np.linspace(0.1, 3, 300)[:, None]
        file["incident_phi"] = np.linspace(-3, 3, 300, dtype=np.float32)[:, None]
    for showers in (small_showers, path):
        folder = tmp_path / f"prepared-{showers.stem}"
        prepared = prepare(open_showers(showers), folder, seed=1)
        for split in ("test", "validation"):
            kept, read = prepared.conditions_of(split), open_split(showers, folder, split).conditions
            assert kept.names == read.names == prepared.conditions
            for name in read.names:
                np.testing.assert_array_equal(getattr(kept, name), getattr(read, name))
    with pytest.raises(InputError, match="unknown split with conditions 'train'"):
        prepared.conditions_of("train")
    (folder / "conditions.npz").unlink()
    with pytest.raises(InputError, match=r"prepared by an older version; run caloforge preprocess again"):
        load_prepared(folder).conditions_of("test")


def test_where_the_showers_came_from(small_showers: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(small_showers.read_bytes()).hexdigest()
    size = small_showers.stat().st_size
    source = Source("s3://bucket/small.hdf5", size, digest, "2026-11-26T03:00:00+00:00", 1.5)
    prepare(open_showers(small_showers), tmp_path / "a", source=source)
    assert load_prepared(tmp_path / "a").source == source
    prepare(open_showers(small_showers), tmp_path / "b", source=replace(source, sha256=""))
    assert load_prepared(tmp_path / "b").source == source, "a path's checksum is worked out when it is read"
    plain = prepare(open_showers(small_showers), tmp_path / "c").source
    assert plain is not None
    assert (plain.address, plain.size, plain.sha256) == ("small.hdf5", size, digest)
    with pytest.raises(InputError, match=r"is damaged, or was changed: its SHA-256 is .* fetched from s3://bucket"):
        prepare(open_showers(small_showers), tmp_path / "d", source=replace(source, sha256="0" * 64))
    assert not (tmp_path / "d").exists()
    record = read_json(tmp_path / "a" / "prepared.json")
    write_json(tmp_path / "a" / "prepared.json", {key: record[key] for key in record if key != "source"})
    assert load_prepared(tmp_path / "a").source is None


def test_a_split_says_how_much_is_read(
    small_showers: Path, small_prepared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="caloforge"):
        open_split(small_showers, small_prepared, "test")
    assert re.search(r"the test split is 60 of 300 showers of small.hdf5 \(about 0\.\d of 0\.\d MB\)", caplog.text)


def test_a_lopsided_sample_is_not_called_symmetric(small_showers: Path, tmp_path: Path) -> None:
    path = tmp_path / "lopsided.hdf5"
    path.write_bytes(small_showers.read_bytes())
    with h5py.File(path, "r+") as file:
        voxels = file["showers"][:].reshape(-1, 15, 8, 4)
        voxels[:, :, 0] *= 2
        file["showers"][:] = voxels.reshape(len(voxels), -1)
    assert not prepare(open_showers(path), tmp_path / "prepared").phi_symmetric


def test_too_few_good_showers(small_showers: Path, tmp_path: Path) -> None:
    few = r"only 240 showers; 250 are needed, to have 50 to judge by \(test_fraction is 0\.2\)"
    with pytest.raises(InputError, match=few):
        prepare(open_showers(small_showers).select(range(240)), tmp_path / "prepared")
    fewer = PrepareSettings(validation_fraction=0.1)
    with pytest.raises(InputError, match=r"only 300 showers; 500 are needed.*validation_fraction is 0\.1"):
        prepare(open_showers(small_showers), tmp_path / "prepared", settings=fewer)
    response = PrepareSettings(max_response=0.8)  # some have more
    with pytest.raises(InputError, match=r"only \d+ good showers \(\d+ .*\); 250 are needed"):
        prepare(open_showers(small_showers), tmp_path / "prepared", settings=response)
    assert not (tmp_path / "prepared").exists()


def test_another_file_than_the_prepared_one(demo_showers: Path, small_prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds 8000 showers but .* was made from 300"):
        open_split(demo_showers, small_prepared, "train")
    with pytest.raises(InputError, match=r"unknown split 'tets'; did you mean 'test'"):
        open_split(demo_showers, small_prepared, "tets")
    with pytest.raises(InputError, match=r"not a folder of prepared data"):
        load_prepared(tmp_path)


def test_threshold_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.full((250, 1), 1e4)
        file["showers"] = np.ones((250, 480))
        file.attrs["geometry_xml"] = (
            '<Bins><Bin pid="11" name="e"><Layer id="0" r_edges="' + ",".join(map(str, range(481)))
            + '" n_bin_alpha="1"/></Bin></Bins>'
        )  # fmt: skip
    with pytest.raises(InputError, match=r"states no energy threshold"):
        prepare(open_showers(path), tmp_path / "prepared")
    assert prepare(open_showers(path), tmp_path / "p", settings=PrepareSettings(threshold=0.1)).threshold == 0.1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0.0, "is 0, but a generator needs a positive one"),
        (-1.0, r"is -1\.0; it must be a positive number"),
        (np.nan, "is nan; it must be"),
        (np.inf, "is inf; it must be"),
        (1e300, r"is 1e\+300; it must be"),
        ("15 keV", "is '15 keV'; it must be"),
        (np.array([0.015, 0.02]), "it must be a positive number"),
        (True, "is True; it must be"),
    ],
)
def test_a_threshold_that_is_none(value: object, reason: str, small_showers: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(small_showers.read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["energy_threshold"] = value
    with pytest.raises(InputError, match=rf"a\.hdf5: attribute energy_threshold .*{reason}.*--threshold MEV"):
        prepare(open_showers(path), tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()
    assert prepare(open_showers(path), tmp_path / "p", settings=PrepareSettings(threshold=0.1)).threshold == 0.1


def noisy(source: Path, path: Path, *, shift: float) -> Path:
    """Add noise of 0.1 MeV to every voxel, and a pedestal."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        noise = np.random.default_rng(0).normal(shift, 0.1, file["showers"].shape)
        file["showers"][...] = file["showers"][...] + noise
    return path


def test_showers_with_negative_noise_are_refused_with_what_to_do(small_showers: Path, tmp_path: Path) -> None:
    showers = open_showers(noisy(small_showers, tmp_path / "noisy.hdf5", shift=0))
    with pytest.raises(
        InputError, match=r"300 of 300 have negative energies; no family.*noise cut.*setting 'threshold'"
    ):
        prepare(showers, tmp_path / "prepared")


def test_a_sample_without_zeros_is_warned_of(
    small_showers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    showers = open_showers(noisy(small_showers, tmp_path / "noisy.hdf5", shift=1))
    prepare(showers, tmp_path / "prepared")
    assert "100.0 % of all voxels are above the threshold of 0.01515 MeV: if that is noise" in caplog.text
    caplog.clear()
    prepare(showers, tmp_path / "cut", settings=PrepareSettings(threshold=1.5))
    assert "of all voxels" not in caplog.text


def test_few_showers_are_warned_of(
    small_showers: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(open_showers(small_showers), tmp_path / "few")
    assert (
        "only 180 showers to train on; a classifier told the tree's showers from Geant4's with an AUC of" in caplog.text
    )
    caplog.clear()
    monkeypatch.setattr("caloforge.preprocessing.prepare.FEW_SHOWERS", 180)
    prepare(open_showers(small_showers), tmp_path / "enough")
    assert "to train on" not in caplog.text


def test_codings_of_another_version_are_refused(small_showers: Path, tmp_path: Path) -> None:
    prepared = prepare(open_showers(small_showers), tmp_path / "prepared")
    record = read_json(prepared.path / "prepared.json")
    record["settings"]["voxel_scaling"] = "censored_log"
    write_json(prepared.path / "prepared.json", record)
    with pytest.raises(InputError, match=r"prepared by another version; run caloforge preprocess again"):
        load_prepared(prepared.path).transforms()
    record["settings"]["voxel_scaling"] = "logit"
    write_json(prepared.path / "prepared.json", record)
    with pytest.raises(
        InputError, match=r"transform.safetensors: has no 'steps.2.mean'; it is of another generator or version"
    ):
        load_prepared(prepared.path).transforms()


@pytest.mark.parametrize("key", ["geometry", "settings", "threshold", "conditions", "quality", "provenance"])
def test_a_record_without_what_is_needed_is_refused(key: str, small_prepared: Path, tmp_path: Path) -> None:
    record = read_json(small_prepared / "prepared.json")
    shutil.copytree(small_prepared, tmp_path / "a")
    write_json(tmp_path / "a" / "prepared.json", {name: value for name, value in record.items() if name != key})
    with pytest.raises(InputError, match=rf"prepared\.json: .*{key}"):
        load_prepared(tmp_path / "a")
    write_json(tmp_path / "a" / "prepared.json", {**record, "splits": {}})  # said for people
    assert load_prepared(tmp_path / "a").splits.keys() == record["splits"].keys()


@pytest.mark.parametrize("threshold", [0, -1.0, 1e300, "0.01", True])
def test_a_record_with_a_threshold_that_is_none_is_refused(
    threshold: object, small_prepared: Path, tmp_path: Path
) -> None:
    shutil.copytree(small_prepared, tmp_path / "a")
    write_json(
        tmp_path / "a" / "prepared.json", {**read_json(small_prepared / "prepared.json"), "threshold": threshold}
    )
    with pytest.raises(InputError, match=r"prepared\.json: threshold"):
        load_prepared(tmp_path / "a")
