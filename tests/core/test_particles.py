from __future__ import annotations

import pytest

from caloforge.errors import InputError
from caloforge.particles import particle_name, pdg_code


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("e-", 11),
        ("E+", -11),
        ("gamma", 22),
        ("photon", 22),
        ("pi+", 211),
        ("K0L", 130),
        (" 2212 ", 2212),
        ("-13", -13),
    ],
)
def test_particles_are_known_by_name_and_by_code(word: str, code: int) -> None:
    assert pdg_code(word) == code
    assert pdg_code(particle_name(code)) == code


def test_an_unknown_particle_gets_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"unknown particle 'gama'; did you mean 'gamma'"):
        pdg_code("gama")
    with pytest.raises(InputError, match="0 is no PDG code"):
        pdg_code("0")
    assert particle_name(4122) == "4122"
