from pathlib import Path
from typing import Any

import pytest

from caloforge.errors import InputError
from caloforge.models.families import FAMILIES as MODEL_FAMILIES
from caloforge.models.presets import PRESETS as MODEL_PRESETS
from caloforge.pipelines.settings import FAMILIES, PRESETS, PipelineSettings


def test_names_are_those_of_the_models() -> None:
    assert tuple(MODEL_FAMILIES) == FAMILIES
    assert set(PRESETS) == set(MODEL_PRESETS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"familys": ["vae"]}, r"here: unknown key 'familys'; did you mean 'families'"),
        ({"families": ["vea"]}, r"here: families: unknown family 'vea'; did you mean 'vae'"),
        ({"families": ["vae", "vae"]}, "named twice"),
        ({"families": []}, "families"),
        ({"overrides": {"difusion": {}}}, "did you mean 'diffusion'"),
        ({"preset": "ful"}, r"preset: unknown preset 'ful'; did you mean 'full'"),
        ({"prepare": {"treshold": 1}}, "did you mean 'prepare.threshold'"),
        ({"seed": 2**53}, "seed"),
        ({"resources": {"trian": {}}}, "train"),
        ({"name": "Not_A_Name"}, "name"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        PipelineSettings.parse(values, where="here")
    assert "\n" not in str(error.value)


def test_settings_come_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("families: [vae]\nresources: {train: {gpus: 1, memory: 32G}}\n")
    settings = PipelineSettings.from_yaml(path)
    assert settings.families == ("vae",)
    assert settings.resources["train"].gpus == 1
