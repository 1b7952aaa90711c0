from pathlib import Path
from typing import Any

import pytest

from caloforge.errors import InputError
from caloforge.models.presets import resolve
from caloforge.models.registries import FAMILIES, PRESETS
from caloforge.tuning.space import Double, format_value, load_space, nest, parse_space, parse_value

RATE = {"type": "double", "min": 1e-4, "max": 1e-2, "log": True}


def parse(values: Any, family: str = "vae") -> Any:
    return parse_space(values, family=family, preset="demo", where="mine.yaml")


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("preset", PRESETS)
def test_shipped_spaces_fit_their_families(family: str, preset: str) -> None:
    space = load_space(family, preset)
    assert any(isinstance(p, Double) and path.endswith(".learning_rate") for path, p in space.parameters.items())
    for path, parameter in space.parameters.items():
        if path != "model.network.width":
            continue
        config = resolve(family, preset)
        for value in (parameter.min, parameter.max, parameter.step):
            assert value % getattr(config.model.network, "heads", 1) == 0, "attention heads divide the width"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training.lerning_rate": RATE}, "did you mean 'training.learning_rate'"),
        ({"trainig.learning_rate": RATE}, "did you mean 'training'"),
        ({"model.couplings": {"type": "int", "min": 1, "max": 4}}, "unknown key 'model.couplings'"),
        ({"training.learning_rate": {**RATE, "mim": 1}}, "did you mean 'min'"),
        ({"training.learning_rate": {**RATE, "type": "dobule"}}, "did you mean 'double'"),
        ({"training.learning_rate": {"min": 1, "max": 2}}, "with its type"),
        ({"training.learning_rate": {**RATE, "min": 1}}, "min 1 must be less than max 0.01"),
        ({"training.learning_rate": {**RATE, "min": 0}}, "must be positive"),
        ({"training.learning_rate": {**RATE, "min": -1, "log": False}}, "training.learning_rate"),
        ({"training.batch_size": {"type": "int", "min": 0, "max": 4}}, "training.batch_size"),
        ({"training.batch_size": {"type": "int", "min": 1, "max": 4, "step": 2}}, "multiple of the step 2"),
        ({"training.batch_size": {"type": "int", "min": 1, "max": 5, "step": 2, "log": True}}, "exclude"),
        ({"training.batch_size": {"type": "double", "min": 16, "max": 64}}, "batch_size"),
        ({"model.network.backbone": {"type": "categorical", "values": ["mlp", "layer"]}}, "network.backbone"),
        ({"training.batch_size": {"type": "categorical", "values": [16, 16]}}, "twice"),
        ({"training.batch_size": {"type": "categorical", "values": [16]}}, "values"),
        ({"training": RATE}, "training"),
        ({"model.latent": {"type": "int", "min": 0, "max": 8}}, "latent"),
        ({"model.network.width": {"type": "int", "min": -4, "max": 8}}, "network.width"),
        ({"model.network.width": {"type": "int", "min": 48, "max": 98, "step": 50}}, "multiple of heads"),
        ({}, "expected parameters"),
        ([1], "expected parameters"),
    ],
)
def test_wrong_spaces(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=r"^mine\.yaml") as error:
        parse(values)
    assert message in str(error.value)


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_space("vae", "demo", tmp_path / "nothing.yaml")
    (tmp_path / "broken.yaml").write_text("a: {\n")
    with pytest.raises(InputError, match="not a YAML file"):
        load_space("vae", "demo", tmp_path / "broken.yaml")
    with pytest.raises(InputError, match="unknown family"):
        load_space("vea", "demo")


def test_nest() -> None:
    assert nest({"a.b.c": 1, "a.d": 2, "e": 3}) == {"a": {"b": {"c": 1}, "d": 2}, "e": 3}
    for paths in (["a", "a.b"], ["a.b", "a"]):
        with pytest.raises(InputError):
            nest(dict.fromkeys(paths, 1))


@pytest.mark.parametrize("value", [1, 1e-05, 0.1, True, "layers", "1.5.2", [{"name": "shower_centre", "weight": 0.1}]])
def test_values_survive_as_text(value: Any) -> None:
    assert parse_value(format_value(value)) == value
    assert type(parse_value(format_value(value))) is type(value)
