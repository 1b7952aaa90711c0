from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from caloforge.errors import InputError
from caloforge.registry import Registry


def colours() -> Registry[object]:
    return Registry("colour", {"red": "decimal:Decimal", "lost": "decimal:Nothing"}, group="caloforge.test")


def test_what_a_name_stands_for_is_imported_when_it_is_asked_for() -> None:
    from decimal import Decimal

    assert colours().get("red") is Decimal
    assert list(colours()) == ["red", "lost"]
    with pytest.raises(InputError, match=r"colour 'lost': decimal:Nothing cannot be imported"):
        colours().get("lost")
    with pytest.raises(InputError, match=r"unknown colour 'rad'; did you mean 'red'"):
        colours().get("rad")


def test_a_notebook_registers_and_takes_back() -> None:
    registry = colours()
    thing = object()
    registry.register("blue", thing)
    assert registry.get("blue") is thing
    assert "blue" in registry
    assert registry.names == ("red", "lost", "blue")
    registry.register("blue", thing)  # a cell that is run again
    with pytest.raises(InputError, match="colour 'red' exists already"):
        registry.register("red", thing)
    registry.forget("blue")
    assert "blue" not in registry


def test_other_packages_add_by_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("green", "decimal:Context", "caloforge.test")
    monkeypatch.setattr("caloforge.registry.entry_points", lambda group: [point] if group == "caloforge.test" else [])
    from decimal import Context

    assert colours().get("green") is Context


def test_names_are_known_without_torch() -> None:
    program = (
        "import sys\n"
        "from caloforge.pipelines.settings import PipelineSettings\n"
        "from caloforge.models.registries import FAMILIES, NETWORKS, OBJECTIVES, SAMPLERS, LOSSES\n"
        "from caloforge.validation.registries import OBSERVABLES, FEATURE_METRICS\n"
        "assert 'vae' in PipelineSettings().families and 'layers' in NETWORKS and 'heun' in SAMPLERS\n"
        "assert 'response' in OBSERVABLES and 'fpd' in FEATURE_METRICS and 'scipy' not in sys.modules\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-P", "-c", program], check=False).returncode == 0
