"""What docs/cluster.md names is there: settings that are taken, files that exist, links that lead somewhere."""

import re
from pathlib import Path

import pytest
import yaml

from caloforge.cli import main
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.settings import PipelineSettings
from caloforge.tuning.experiment import TrialPod

ROOT = Path(__file__).parents[1]
FOLDERS = ("manifests", "docker")
DOCS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def _blocks(name: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)


def _anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_settings_of_a_cluster_make_pipelines() -> None:
    whole, *parts = (yaml.safe_load(text) for text in _blocks("cluster.md"))
    assert len(parts) == 2  # the showers on a claim; a training of two pods
    for part in ({}, *parts):
        build_pipeline(PipelineSettings.parse({**whole, **part}, where="cluster.md"))


def test_the_settings_are_taken() -> None:
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


def test_the_commands_are_there() -> None:
    """Each command in the documentation exists, and so does each option of it."""
    for path in (
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / folder / "README.md" for folder in FOLDERS),
    ):
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            for line in re.sub(r"\$\(.*?\)", "", "" if language else block.replace("\\\n", " ")).splitlines():
                for name, rest in re.findall(r"(?:^|&& |/)caloforge ([a-z][a-z-]*)([^#&|]*)", line):
                    known = {option for one in main.commands[name].params for option in one.opts}
                    unknown = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest)) - known
                    assert not unknown, f"{path.name}: {line}"


def test_each_of_the_ten_pains_has_its_answer_in_a_file() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    rows = re.findall(r"^\| (\d+)\. .* \| (.+) \|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    for number, where in rows:
        named = re.findall(r"`([^`]+)`", where)
        assert named or "](" in where, number
        assert all((ROOT / path).exists() for path in named), where
