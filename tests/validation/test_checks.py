from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.showers import open_showers, write_showers
from caloforge.validation.checks import (
    check_twice,
    check_values,
    copy_warnings,
    family_notes,
    shared_energies,
    student_notes,
)
from caloforge.validation.observables.summary import summarise


def test_generators_that_stand_on_the_same_layer_energies_are_named():
    digests = {"vae": "a" * 64, "wgan": "b" * 64, "flow": "a" * 64, "tree": None}
    samples = {
        name: SimpleNamespace(attributes={"layer_energies": digest} if digest else {})
        for name, digest in digests.items()
    }
    (note,) = shared_energies(samples)
    assert note.startswith("vae and flow stand on the same trained layer energies (SHA-256 aaaaaaaaaaaa):")
    assert shared_energies({name: samples[name] for name in ("vae", "wgan", "tree")}) == ()


def test_what_a_family_says_of_itself_is_a_note_where_it_is_bad():
    said = "needs about 20 GPU-hours"
    noted = {"vae": {}, "b": {"family_note": said}, "c": {"family_note": said}}
    samples = {name: SimpleNamespace(attributes=found) for name, found in noted.items()}
    assert family_notes(samples, {"vae": 1.0, "b": 0.97, "c": 0.7}) == (f"b: {said}",)


def test_a_student_is_told_beside_its_teacher():
    samples = {
        name: SimpleNamespace(attributes=found) for name, found in {"a": {}, "b": {"distilled": "5 times"}}.items()
    }
    assert student_notes(samples) == ("b: 5 times",)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_row_that_is_not_drawn_is_checked_too(value, mesh, toy_showers, write, tmp_path):
    """Of 400 rows, 60 are compared: the last one's chance to be among them is 15 %, and the message is another."""
    energy, voxels = toy_showers(mesh, 400, seed=1)
    reference = write("reference", mesh, energy[:60], voxels[:60])
    voxels = voxels.copy()
    voxels[399, 7] = value
    generated = write("generated", mesh, energy, voxels)
    with pytest.raises(InputError, match=rf"generated.* row 399, voxel 7 is {value:g}"):
        check_values({"reference": reference, "vae": generated})
    check_values({"vae": generated.select(np.arange(399))})


def test_fractions_for_mev_are_no_bad_generator(mesh, toy_showers, write):
    energy, voxels = toy_showers(mesh, 100, seed=1)
    with pytest.raises(InputError, match="as if they were fractions"):
        check_values({"vae": write("fractions", mesh, energy, voxels / energy[:, None])})
    check_values({"vae": write("weak", mesh, energy, voxels / 100)})


def test_a_copy_of_the_reference_is_told(small_showers: Path, tmp_path: Path) -> None:
    reference = open_showers(small_showers)
    mixed = tmp_path / "mixed.hdf5"
    rows = np.random.default_rng(1).permutation(len(reference))
    with write_showers(mixed, reference.geometry, attributes={}, provenance={}) as writer:
        writer.append(reference.conditions.take(rows), reference.read()[rows])
    halves = [summarise(reference.select(range(k, 300, 2)), threshold=0.1) for k in (0, 1)]
    copy = summarise(open_showers(mixed), threshold=0.1)
    assert copy_warnings(halves, {"copy": copy}) == [
        "copy: 300 of 300 showers are the reference's own; nothing is judged by them"
    ]
    assert copy_warnings(halves[:1], {"copy": copy})[0].startswith("copy: 150 of 300 showers")
    assert copy_warnings(halves[:1], {"other": halves[1]}) == []


def test_a_sample_is_given_once(small_showers: Path, tmp_path: Path) -> None:
    one, linked = open_showers(small_showers), tmp_path / "linked.hdf5"
    linked.symlink_to(small_showers)
    with pytest.raises(InputError, match=r"linked\.hdf5: is given twice, as a and as b"):
        check_twice({"a": one, "b": open_showers(linked)})
    check_twice({"a": one.select(range(100)), "b": one.select(range(100, 200))})
