"""The list of mutants stays true: what it changes is there, and so are the tests that must notice."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def load() -> object:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "benchmarks" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


MUTANTS = load()


@pytest.mark.parametrize("mutant", MUTANTS.mutants(), ids=lambda mutant: mutant.what)  # type: ignore[attr-defined]
def test_a_mutant_changes_one_place_and_names_tests_that_exist(mutant: object) -> None:
    broken = mutant.text(ROOT)  # type: ignore[attr-defined]
    assert broken != (ROOT / mutant.file).read_text()  # type: ignore[attr-defined]
    compile(broken, mutant.file, "exec")  # type: ignore[attr-defined]
    named = [word for word in shlex.split(mutant.tests) if word.startswith("tests/")]  # type: ignore[attr-defined]
    assert named
    assert all((ROOT / word.partition("::")[0]).exists() for word in named)
