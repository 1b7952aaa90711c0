"""One trial: the ordinary training with some parameters changed, judged on the validation split."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caloforge.files import write_json
from caloforge.models.generate import generate
from caloforge.models.train import train
from caloforge.preprocessing.prepared import load_prepared, open_split
from caloforge.showers import open_showers
from caloforge.steps import step
from caloforge.tuning.objective import measure


def run_trial(
    showers: Path,
    prepared: Path,
    output: Path,
    *,
    family: str,
    preset: str = "demo",
    overrides: Mapping[str, Any] | None = None,
    max_minutes: float | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Train, generate for the validation split and measure; a stopped training goes on when called again.

    Args:
        showers: the shower file that was prepared.
        prepared: folder of the prepared data.
        output: folder to write: ``bundle/`` and ``trial.json``.
        family: name of the family.
        preset: name of the preset.
        overrides: changes to the preset, see :func:`caloforge.models.presets.resolve`.
        max_minutes: limit on the training, the same for all trials that are to be compared.
        seed: of training, generation and metrics.

    Returns:
        The objectives, then what training and generation say of themselves.

    Raises:
        InputError: wrong names, overrides or data.
        RuntimeError: the training diverged, or a figure is not finite.
    """
    trained = train(
        showers, prepared, output / "bundle",
        family=family, preset=preset, overrides=overrides, seed=seed, max_minutes=max_minutes,
    )  # fmt: skip
    reference = open_split(showers, prepared, "validation")
    with tempfile.TemporaryDirectory(dir=output) as scratch:
        sample = Path(scratch) / "showers.hdf5"
        made = generate(output / "bundle", reference.conditions, sample, seed=seed)
        with step("measure"):
            threshold = load_prepared(prepared).threshold
            objectives = measure(reference, open_showers(sample), threshold=threshold, seed=seed)
    figures = {
        **objectives,
        "ms_per_shower": made["ms_per_shower"],
        **{f"train_{name}": value for name, value in trained.items()},
    }
    write_json(
        output / "trial.json",
        {"family": family, "preset": preset, "overrides": dict(overrides or {}), "seed": seed, "figures": figures},
    )
    return figures
