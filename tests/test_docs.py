"""README and docs/: every command and every block of YAML, Python and TOML is taken, links lead somewhere.

Commands that need nothing but showers are run; all others are parsed, with their options and the types of these.
"""

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import click
import pytest
from click.testing import CliRunner

from caloforge.cli import main
from caloforge.models.presets import resolve
from caloforge.models.training.pod import TrainingPod
from caloforge.pipelines.build import build_pipeline
from caloforge.pipelines.settings import PipelineSettings
from caloforge.preprocessing.simulation.detector import Detector
from caloforge.serving.inference_service import ServiceSettings
from caloforge.showers import open_showers
from caloforge.tuning.experiment import TrialPod
from caloforge.tuning.space import parse_space
from caloforge.yaml_file import parse_yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FOLDERS = ("manifests", "docker")
DOCS = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ("README.md", *(f"docs/{name}" for name in DOCS), *(f"{folder}/README.md" for folder in FOLDERS))

PYTHON = {
    "docs/extending.md": ("test_extending.py", "validation/metrics/test_measure.py", "test_registry.py"),
    "docs/formats.md": ("test_formats.py",),
    "docs/validation.md": ("validation/metrics/test_measure.py",),
}
"""Which tests run the Python of which page."""


def _all_blocks(page: str, language: str = "") -> list[str]:
    """Return what stands between fences of a language; without one, texts, which hold commands or what they print."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        block for one, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if one == language
    ]


def _blocks(name: str) -> list[str]:
    return _all_blocks(f"docs/{name}", "yaml")


def _commands(page: str) -> Iterator[list[str]]:
    """Yield the words of each command of caloforge in a page."""
    for block in _all_blocks(page):
        for line in re.sub(r"\$\([^()]*\)", "TOKEN", block.replace("\\\n", " ")).splitlines():
            for part in re.split(r"&&|\|", line):
                if found := re.search(r"(?:^|\s|/)caloforge ([a-z].*)", part):
                    if " -- " in part or not re.match(r"\s*(\S*/)?caloforge ", part):
                        continue
                    words = shlex.split(found[1], comments=True)
                    if words and words[0] in main.commands:
                        yield words


def _parse(words: list[str]) -> click.Context:
    """Parse a command as it would be when it is run; nothing is run."""
    name, *arguments = words
    command = main.commands[name]
    if "..." in arguments and not any(word.startswith("-") for word in arguments[arguments.index("...") - 1 :][:1]):
        arguments.remove("...")  # options that the page has shown before
        return command.make_context(name, arguments, resilient_parsing=True)
    return command.make_context(name, arguments)


def test_every_command_is_one_that_may_be_given() -> None:
    wrong, seen = [], set()
    examples = [(f"caloforge {name} --help", shlex.split(line)[1:]) for name, command in main.commands.items()
                for line in command.example.splitlines()]  # type: ignore[attr-defined]  # fmt: skip
    written = [(page, words) for page in PAGES for words in _commands(page)]
    for page, words in (*written, *examples):
        seen.add(words[0])
        here = [certifi.where() if word.endswith(".pem") else word for word in words]  # certificates are read at once
        try:
            _parse(here)
        except click.ClickException as error:
            wrong.append(f"{page}: caloforge {shlex.join(words)}: {error.format_message()}")
    assert not wrong, "\n".join(wrong)
    assert seen == set(main.commands), "each command has an example"


@pytest.mark.parametrize("command", ["preprocess --dat x -o y", "run --data x", "train --data x --nodes many"])
def test_a_command_that_may_not_be_given_is_noticed(command: str) -> None:
    with pytest.raises(click.ClickException):
        _parse(shlex.split(command))


def _settings(text: str, page: str) -> None:
    build_pipeline(PipelineSettings.parse(parse_yaml(text, where=page), where=page))


def _overrides(text: str, page: str) -> None:
    resolve("flow_matching", "demo", parse_yaml(text, where=page))


def _of(cls: type) -> Callable[[str, str], Any]:
    return lambda text, page: cls.parse(parse_yaml(text, where=page), where=page)  # type: ignore[attr-defined]


def _on_a_cluster(text: str, page: str) -> None:
    """What is put on top of the first block of the page."""
    whole = parse_yaml(_all_blocks(page, "yaml")[0], where=page)
    build_pipeline(PipelineSettings.parse({**whole, **parse_yaml(text, where=page)}, where=page))


YAML: dict[str, tuple[Callable[[str, str], Any], ...]] = {
    "docs/cluster.md": (_settings, _on_a_cluster, _on_a_cluster),
    "docs/deploy.md": (_of(ServiceSettings), _settings),
    "docs/distributed.md": (_settings, _of(TrainingPod)),
    "docs/extending.md": (_overrides,),
    "docs/pipeline.md": (_settings,),
    "docs/simulation.md": (_settings, _of(Detector)),
    "docs/tuning.md": (_of(TrialPod), _settings),
}
"""What takes each block of YAML, in the order of the page."""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_yaml_is_taken(page: str) -> None:
    blocks, takers = _all_blocks(page, "yaml"), YAML.get(page, ())
    assert len(blocks) == len(takers), "a new block needs what takes it"
    for block, take in zip(blocks, takers, strict=True):
        take(block, page)


def test_the_search_space_of_the_readme_is_taken() -> None:
    (space,) = [block for block in _all_blocks("README.md") if "type: double" in block]
    assert (
        len(parse_space(parse_yaml(space, where="README"), family="vae", preset="demo", where="README").parameters) == 3
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_is_run_by_a_test(page: str) -> None:
    tests = [(ROOT / "tests" / name).read_text(encoding="utf-8") for name in PYTHON.get(page, ())]
    assert bool(_all_blocks(page, "python")) == bool(tests)
    assert all(Path(page).name in text or "register" in text for text in tests)
    for block in _all_blocks(page, "python"):
        compile(block, page, "exec")


@pytest.mark.parametrize("page", PAGES)
def test_every_entry_point_of_the_docs_is_one_that_is_read(page: str) -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("*/registries.py"))
    for block in _all_blocks(page, "toml"):
        for group in tomllib.loads(block)["project"]["entry-points"]:
            assert f'"{group}"' in source or f'"{group.removeprefix("caloforge.")}"' in source, group


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_is_there(page: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"^(?:`)?make ([a-z-]+)", "\n".join(_all_blocks(page)), re.MULTILINE)
    named += re.findall(r"`make ([a-z-]+)`", (ROOT / page).read_text(encoding="utf-8"))
    assert {*named} <= targets


SMALLER = {"--max-minutes": "0.01", "--n": "20"}
"""The trainings of the docs take minutes."""

RUN = ("preprocess", "train", "generate", "validate", "export", "compile", "manifests")


@pytest.fixture(scope="module")
def scratch(small_showers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a reader has: showers, and the settings of docs/cluster.md."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "showers.hdf5").write_bytes(small_showers.read_bytes())
    (folder / "cluster.yaml").write_text(_blocks("cluster.md")[0], encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_commands_of_the_readme_are_run_one_after_the_other(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that need a cluster or a server, or are the whole pipeline, have tests of their own."""
    monkeypatch.chdir(scratch)
    ran = []
    for words in _commands("README.md"):
        needs = [word for word in words if word.startswith("tuned/")]
        if words[0] not in RUN or needs:
            continue
        smaller = [SMALLER.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        result = CliRunner().invoke(main, smaller, standalone_mode=False)
        assert result.exception is None or (isinstance(result.exception, SystemExit) and not result.exception.code), (
            f"caloforge {shlex.join(smaller)}: {result.exception!r}\n{result.output}"
        )
        ran.append(words[0])
    assert set(ran) == {*RUN}
    assert (scratch / "report" / "report.html").is_file()
    assert (scratch / "exported" / "generator.onnx").is_file()


def _anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCS)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / "docs" / name
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
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


def test_the_detector_of_the_page_on_simulation_is_simulated(
    geant4: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(_blocks("simulation.md")[1], encoding="utf-8")
    (words,) = [words for words in _commands("docs/simulation.md") if "mine.yaml" in words]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    response = (
        open_showers(Path("mine.hdf5")).read().sum(1) / open_showers(Path("mine.hdf5")).conditions.incident_energy
    )
    assert 0.8 < response.mean() < 1.2
