from __future__ import annotations

from pathlib import Path

import pytest
from small_families import quick


@pytest.fixture(scope="session")
def family_bundles(
    small_showers: Path, small_prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One bundle per family, each trained for a few steps."""
    from caloforge.models.configuration import TrainingRequest
    from caloforge.models.registries import FAMILIES
    from caloforge.models.training.train import train

    folder = tmp_path_factory.mktemp("families")
    for name in FAMILIES:
        overrides = quick(name)
        overrides["model"] |= {"couplings": 2, "bins": 4} if name == "coupling_flow" else {}
        train(
            TrainingRequest(
                showers=small_showers,
                prepared=small_prepared,
                output=folder / name,
                family=name,
                overrides=overrides,
                seed=3,
            )
        )
    return {name: folder / name for name in FAMILIES}
