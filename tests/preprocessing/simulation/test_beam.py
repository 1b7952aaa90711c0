from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from caloforge.errors import InputError
from caloforge.preprocessing.simulation.beam import Beam


def shots(beam: Beam, n: int = 4000, seed: int = 1) -> list:
    return [beam.shot(seed, number, normal_theta=1.5) for number in range(n)]


def test_energies_are_log_uniform_and_angles_uniform_on_the_sphere() -> None:
    found = shots(Beam(energy=(1e3, 1e5), theta=(0.9, 2.2)))
    ln = np.log([one.energy for one in found])
    cosine, phi = np.cos([one.theta for one in found]), np.array([one.phi for one in found])
    # 4000 draws: a distance of 0.03 has p < 0.002, and the draws are always the same.
    for values, low, high in (
        (ln, np.log(1e3), np.log(1e5)), (cosine, np.cos(2.2), np.cos(0.9)), (phi, -np.pi, np.pi),
    ):  # fmt: skip
        assert kstest(values, "uniform", (low, high - low)).statistic < 0.03
    assert abs(np.corrcoef([ln, cosine, phi]) - np.eye(3)).max() < 0.05


def test_a_shower_depends_on_seed_and_number_alone() -> None:
    beam = Beam(energy=(1e3, 1e5), particles=("e-", "gamma"))
    alone = beam.shot(1, 37, normal_theta=1.5)
    assert alone == shots(beam, 40)[37]
    assert alone != beam.shot(2, 37, normal_theta=1.5)
    assert len({one.seeds for one in shots(beam)}) == 4000


def test_fixed_values_and_right_angles() -> None:
    one = Beam(energy=(5e3, 5e3)).shot(0, 0, normal_theta=1.5)
    assert (one.energy, one.theta, one.phi, one.particle) == (5e3, 1.5, 0.0, "e-")
    one = Beam(energy=(5e3, 5e3), theta=(1.0, 1.0), phi=(0.3, 0.3)).shot(0, 0, normal_theta=1.5)
    assert (one.theta, one.phi) == (1.0, 0.3)


def test_particles_are_equally_likely_and_may_be_codes() -> None:
    beam = Beam(energy=(1e3, 1e3), particles=("electron", "22", "e+"))
    assert beam.particles == ("e-", "gamma", "e+")
    assert beam.codes == (11, 22, -11)
    names, counts = np.unique([one.particle for one in shots(beam)], return_counts=True)
    assert list(names) == ["e+", "e-", "gamma"]
    assert (abs(counts - 4000 / 3) < 4 * np.sqrt(4000 * 2 / 9)).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"energy": (1e5, 1e3)}, "energy: expected LEAST:GREATEST"),
        ({"energy": (0, 1e3)}, "energy: expected 1 to 1e"),
        ({"particles": ["e"]}, r"unknown particle 'e'"),
        ({"particles": ["13579"]}, r"unknown particle 13579 \(choose one of gamma, e-"),
        ({"particles": ["e-", "11"]}, "a particle is named twice"),
        ({"theta": (30, 90)}, "theta: expected 0 to 3.1416 rad, got 30 to 90; is it in degrees"),
        ({"phi": (0, 7)}, "phi: expected"),
    ],
)
def test_wrong_beams(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Beam.parse({"energy": (1e3, 1e4), **values}, where="beam")
