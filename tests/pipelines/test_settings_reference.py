"""The tables of settings in the documentation are those of the classes.

After a change: ``UPDATE_DOCS=1 pytest tests/pipelines/test_settings_reference.py``.
"""

import inspect
import json
import os
import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from caloforge.pipelines.settings import Backoff, Distributed, FetchCache, PipelineSettings
from caloforge.pods import Pod, SecretKey, Toleration
from caloforge.serving.inference_service import ServiceSettings
from caloforge.tuning.settings import TuneSettings

DOCS = Path(__file__).parents[2] / "docs"
GOLDEN = Path(__file__).parent / "golden.yaml"
CLASSES = (
    PipelineSettings,
    Pod,
    Toleration,
    SecretKey,
    FetchCache,
    Backoff,
    Distributed,
    TuneSettings,
    ServiceSettings,
)


def _descriptions(cls: type[BaseModel]) -> dict[str, str]:
    lines = inspect.getdoc(cls).split("Attributes:\n")[1].splitlines()  # type: ignore[union-attr]
    found: dict[str, str] = {}
    for line in lines:
        if match := re.fullmatch(r" {4}(\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif line.strip():
            found[name] += " " + line.strip()
    return found


def _default(cls: type[BaseModel], name: str) -> str:
    field = cls.model_fields[name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return f"`{json.dumps(value)}`"


def _table(cls: type[BaseModel]) -> str:
    descriptions = _descriptions(cls)
    inherited = Pod.model_fields if cls is not Pod and issubclass(cls, Pod) else {}
    own = [name for name in cls.model_fields if name not in inherited]
    assert [*descriptions] == own, "the docstring has each setting, in order"
    rows = [
        f"| `{name}` | {_default(cls, name)} | {text.replace('``', '`').replace('|', '/')} |"
        for name, text in descriptions.items()
    ]
    return "\n".join(["| key | default | |", "|---|---|---|", *rows])


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_table_is_that_of_the_class(cls: type[BaseModel]) -> None:
    begin, end = f"<!-- {cls.__name__} -->\n", f"\n<!-- /{cls.__name__} -->"
    document = DOCS / ("deploy.md" if cls is ServiceSettings else "pipeline.md")
    text = document.read_text()
    before, rest = text.split(begin)
    table, after = rest.split(end)
    if os.environ.get("UPDATE_DOCS"):
        document.write_text(before + begin + _table(cls) + end + after)
    else:
        assert table == _table(cls)


def test_each_parameter_of_the_pipeline_is_named() -> None:
    parameters = next(yaml.load_all(GOLDEN.read_text(), Loader=yaml.CSafeLoader))["root"]["inputDefinitions"][
        "parameters"
    ]
    assert not [name for name in parameters if f"`{name}`" not in (DOCS / "pipeline.md").read_text()]


def test_the_example_is_taken() -> None:
    example = (DOCS / "pipeline.md").read_text().split("```yaml\n")[1].split("```")[0]
    settings = PipelineSettings.parse(yaml.safe_load(example), where="example")
    assert settings.pod_of("train").gpus == 1
    assert settings.pod_of("train").claims == {"caloforge-data": "/data"}
