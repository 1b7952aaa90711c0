from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from caloforge.conditions import Conditions
from caloforge.domain import Domain, DomainTable, as_dict, check_inside, domains_of, spread_over
from caloforge.errors import InputError

N = 1000


@pytest.fixture
def conditions() -> Conditions:
    rng = np.random.default_rng(0)
    return Conditions(
        np.geomspace(1e3, 1e5, N),
        theta=np.linspace(0.9, 2.2, N),
        phi=np.mod(rng.uniform(-0.5, 0.5, N) + np.pi, 2 * np.pi),  # about the place where it jumps
        particle=np.resize([22, -211], N),
    )


def test_domains_are_ranges_arcs_and_sets(conditions: Conditions) -> None:
    domains = domains_of(conditions)
    assert list(domains) == ["incident_energy", "theta", "phi", "particle"]
    assert domains["incident_energy"].limits == pytest.approx((1e3, 1e5))
    assert domains["phi"].limits == pytest.approx((np.pi - 0.5, np.pi + 0.5), abs=0.01)
    assert domains["particle"] == Domain(values=(-211.0, 22.0))
    assert DomainTable.parse(as_dict(domains), where="x").domains == domains
    told = [domain.told(name) for name, domain in domains.items()]
    assert told[0] == "1000 to 100000 MeV"
    assert told[3] == "pi- (-211), gamma (22)"
    few = Domain.of("incident_energy", np.repeat([256.0, 512.0, 1024.0], 20))
    assert few == Domain(low=256, high=1024, values=(256.0, 512.0, 1024.0))
    assert few.told("incident_energy") == "256 to 1024 MeV, 3 values (256, 512, 1024)"
    for n in (3, 30):
        assert Domain.of("theta", np.full(n, 1.5)).told("theta") == "1.5 rad"


@pytest.mark.parametrize("shift", [0.0, 3.0, -3.0])
def test_an_azimuth_all_around_has_no_outside(shift: float) -> None:
    around = Domain.of("phi", np.random.default_rng(1).uniform(-np.pi, np.pi, 200) + shift)
    assert around.told("phi") == "all around"
    assert not around.outside("phi", np.linspace(-6.3, 6.3, 50)).any()
    quarters = Domain.of("phi", np.repeat([0, np.pi / 2, np.pi, -np.pi / 2], 20))
    assert not quarters.outside("phi", np.array([-2.4])).any()
    assert quarters.between("phi", np.array([-2.4, -np.pi, 1.571])).tolist() == [True, False, False]


OUTSIDE = {
    "incident_energy": (1.2e5, "row 1 is 120000 MeV, outside the trained range 1000 to 100000 MeV"),
    "theta": (0.85, r"row 1 is 0.85 rad, outside the trained range 0.9 to 2.2 rad"),
    "phi": (2.4, r"row 1 is 2.4 rad, outside the trained range 2.6\d* to 3.6\d* rad"),
    "particle": (11, r"row 1 is e- \(11\), which the generator was not trained on \(pi- \(-211\), gamma \(22\)\)"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_every_condition_outside_is_refused_or_warned_of(
    name: str, conditions: Conditions, caplog: pytest.LogCaptureFixture
) -> None:
    domains = domains_of(conditions)
    few = {one: np.array(getattr(conditions, one)[500:502]) for one in conditions.names}
    check_inside(Conditions.of(few), domains, extrapolation="refuse")
    few[name][1], message = OUTSIDE[name]
    with pytest.raises(InputError, match=f"^{name}: {message}; 1 of 2 are outside"):
        check_inside(Conditions.of(few), domains, extrapolation="refuse")
    if name == "particle":  # nothing can be said of one that was not there
        with pytest.raises(InputError, match="was not trained on"):
            check_inside(Conditions.of(few), domains, extrapolation="warn")
        return
    with caplog.at_level(logging.WARNING):
        check_inside(Conditions.of(few), domains, extrapolation="warn")
    assert "sampling all the same" in caplog.text
    few[name][1] = -9e9
    with pytest.raises(InputError, match="outside the trained range"):
        check_inside(Conditions.of(few), {name: domains[name]}, extrapolation="refuse")
    few[name][1] = np.nan
    with pytest.raises(InputError, match=f"^{name}: row 1 is not finite"):
        check_inside(Conditions.of(few), domains, extrapolation="warn")


def test_another_sample_of_the_same_kind_is_inside(conditions: Conditions) -> None:
    domains = domains_of(conditions)
    near = Conditions(np.array([970.0, 1.03e5]), theta=np.array([0.89, 2.21]), phi=np.array([2.635, -2.635]))
    check_inside(near, {name: domains[name] for name in near.names}, extrapolation="refuse")
    # the same directions a turn further
    turned = Conditions(near.incident_energy, near.theta, near.phi - 2 * np.pi)  # type: ignore[operator]
    check_inside(turned, {name: domains[name] for name in near.names}, extrapolation="refuse")


def test_what_is_missing_is_named(conditions: Conditions) -> None:
    domains = domains_of(conditions)
    with pytest.raises(InputError, match=r"needs .*; missing: phi, particle .--condition phi=VALUE --condition partic"):
        check_inside(Conditions(conditions.incident_energy, conditions.theta), domains, extrapolation="refuse")


def test_a_value_between_the_few_of_the_training_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    domains = domains_of(Conditions(np.repeat([1000.0, 2000.0], 50)))
    with caplog.at_level(logging.WARNING):
        check_inside(Conditions(np.array([1010.0, 1990.0])), domains, extrapolation="refuse")
        assert not caplog.text
        check_inside(Conditions(np.array([1000.0, 1500.0])), domains, extrapolation="refuse")
    assert "row 1 is 1500 MeV, between the values of the training" in caplog.text


def test_checks_of_a_generator_ask_for_all_that_it_was_trained_on(conditions: Conditions) -> None:
    domains = domains_of(conditions)
    spread = spread_over(domains, 40)
    check_inside(spread, domains, extrapolation="refuse")
    again = domains_of(spread)
    assert set(again["particle"].values) == {-211.0, 22.0}
    assert again["incident_energy"].limits == pytest.approx(domains["incident_energy"].limits)
    for name in ("theta", "phi"):
        widths = [np.ptp(domain[name].limits) for domain in (again, domains)]  # type: ignore[literal-required]
        assert widths[0] > 0.9 * widths[1]
    for pair in ((spread.incident_energy, spread.theta), (spread.theta, spread.phi), (spread.theta, spread.particle)):
        assert abs(np.corrcoef(*(np.asarray(x, float) for x in pair))[0, 1]) < 0.3
    assert len(spread_over(domains, 1)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"incident_energy": {"low": 0, "high": 1}},
        {"incident_energy": {"low": 2, "high": 1}},
        {"incident_energy": {"values": [1.0]}},
        {"theta": {"low": 0, "high": 4}},
        {"particle": {"low": 11, "high": 22}},
        {"particle": {"values": []}},
        {"charge": {"values": [1]}},
    ],
)
def test_domains_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^here: .*{next(iter(changes))}"):
        DomainTable.parse({"incident_energy": {"low": 1, "high": 2}, **changes}, where="here")


def test_particles_that_networks_cannot_tell_apart_are_refused() -> None:
    with pytest.raises(InputError, match=r"1000020030 and alpha .1000020040. are the same"):
        Domain.of("particle", np.array([1000020030, 1000020040]))
