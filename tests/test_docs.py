"""What docs/cluster.md names is there: settings that are taken, files that exist, links that lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

from caloforge.pipelines.settings import PipelineSettings
from caloforge.tuning.experiment import TrialPod

ROOT = Path(__file__).parents[1]
DOCS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def _blocks(name: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)


def _anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_settings_are_taken() -> None:
    blocks = [yaml.safe_load(text) for text in _blocks("cluster.md")]
    assert len(blocks) == 2
    for block in blocks:
        PipelineSettings.parse(block, where="cluster.md")
    pod, tuning = (yaml.safe_load(text) for text in _blocks("tuning.md"))
    TrialPod.parse(pod, where="tuning.md")
    assert PipelineSettings.parse(tuning, where="tuning.md").tuning.trials == 20


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (ROOT / "docs" / name).read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / "docs" / path).resolve() if path else ROOT / "docs" / name
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


def test_each_of_the_ten_pains_has_its_answer_in_a_file() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    rows = re.findall(r"^\| (\d+)\. .* \| (.+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    for number, where in rows:
        named = re.findall(r"`([^`]+)`", where)
        assert named or "](" in where, number
        assert all((ROOT / path).exists() for path in named), where
