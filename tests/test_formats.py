"""The examples of docs/formats.md: each makes its source and is read."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.preprocessing.registries import READERS
from caloforge.showers import open_showers

PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("title", SECTIONS)
def test_the_example_of_a_format_is_read(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", SECTIONS[title], re.DOTALL | re.MULTILINE)
    (_, source), (language, commands) = blocks
    assert language == ""
    exec(source, {})
    for line in commands.splitlines():
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    assert len(open_showers(tmp_path / "showers.hdf5")) > 0
    if "--picture" in commands:
        assert (tmp_path / "mean.png").read_bytes().startswith(b"\x89PNG")


def test_every_format_has_a_line() -> None:
    assert re.findall(r"^\| \[`(\w+)`\]\(#", PAGE, re.MULTILINE) == sorted(READERS.names, key=_place)


def _place(name: str) -> int:
    return PAGE.index(f"[`{name}`]")
