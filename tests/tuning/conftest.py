"""An experiment whose trials take no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caloforge.tuning.experiment import TrialPod, build_experiment
from caloforge.tuning.space import parse_space

RANGES = {
    "training.learning_rate": {"type": "double", "min": 1e-4, "max": 1e-2, "log": True},
    "training.batch_size": {"type": "int", "min": 16, "max": 128, "step": 16},
}
TOY = Path(__file__).parent / "toy.py"


@pytest.fixture
def toy() -> Callable[..., dict[str, Any]]:
    """Return a function that builds an experiment around ``toy.py``."""

    def build(*, ranges: dict[str, Any] = RANGES, mode: str = "good", **changes: Any) -> dict[str, Any]:
        space = parse_space(ranges, family="vae", preset="demo", where="toy")
        settings = {
            "name": "toy",
            "objective": "fpd",
            "algorithm": "tpe",
            "seed": 1,
            "trials": 4,
            "parallel": 2,
            "max_failed": 1,
            "command": ["python", "-S", "-P", str(TOY), mode],
            "output": "out",
            "pod": TrialPod(namespace="default"),
            **changes,
        }
        return build_experiment(space, **settings)

    return build
