"""Every name of every door, so that a new one is tested on arrival."""

from __future__ import annotations

import inspect

import pytest

from caloforge.models.family import Family
from caloforge.models.networks.backbone import Backbone
from caloforge.models.objectives.objective import Objective
from caloforge.models.registries import FAMILIES, LOSSES, NETWORKS, OBJECTIVES, SAMPLERS
from caloforge.models.samplers.sampler import Sampler

DOORS = [(FAMILIES, Family), (NETWORKS, Backbone), (OBJECTIVES, Objective), (SAMPLERS, Sampler)]


@pytest.mark.parametrize(("door", "base"), DOORS)
def test_names_stand_for_classes_of_their_contract(door: object, base: type) -> None:
    for name in door:  # type: ignore[attr-defined]
        found = door.get(name)  # type: ignore[attr-defined]
        assert issubclass(found, base)
        assert not inspect.isabstract(found)
        given = found.Config(family=name, preset="demo") if base is Family else found.Config()
        if base is not Family:
            assert (given.backbone if base is Backbone else given.name) == name


def test_losses_are_functions_of_batch_and_showers() -> None:
    for name in LOSSES:
        assert list(inspect.signature(LOSSES.get(name)).parameters) == ["batch", "decoded"]


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_each_objective_has_a_sampler(objective: str) -> None:
    assert any(SAMPLERS.get(name).takes == OBJECTIVES.get(objective).gives for name in SAMPLERS)
