from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from caloforge.components.artifacts import record
from caloforge.files import write_json
from caloforge.index import Index
from caloforge.pipelines.layout import RECORD
from caloforge.pipelines.local.collect import collect


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], SimpleNamespace]:
    """Return a function that makes an artifact of a name."""

    def artifact(name: str) -> SimpleNamespace:
        path = tmp_path / "steps" / name
        return SimpleNamespace(path=str(path), uri=str(path), metadata={})

    return artifact


def test_results_are_laid_out_as_links(tmp_path: Path, made: Callable[[str], SimpleNamespace]) -> None:
    steps, output = tmp_path / "steps", tmp_path / "output"
    for name in ("page", "judgement/metrics.json", "judgement/summary.md", "judgement/tables.csv",
                 "judgement/plots/a.png", "leaderboard", "ranking", "report", "quality", "winner/config.json",
                 "vae/config.json", "vae_showers", "tuning/overrides.json"):  # fmt: skip
        (steps / name).parent.mkdir(parents=True, exist_ok=True)
        (steps / name).write_text(name)

    records = [
        record("preprocess", {"quality": made("quality")}),
        record("tune", {"tuning": made("tuning")}, family="vae"),
        record("train", {"bundle": made("vae")}, family="vae"),
        record("train", {}, family="wgan", failed="it diverged"),
        record("generate", {"generated": made("vae_showers")}, family="vae"),
        record("validate", {name: made(name) for name in ("judgement", "report", "leaderboard", "ranking")}),
        record("export", {"exported": made("winner")}, family="vae"),
        record("overview", {"page": made("page")}),
    ]
    index = Index.gather(records, families=["vae", "wgan"], pipeline="caloforge", run="1", caloforge="0")
    write_json(steps / "index", index.model_dump(mode="json"))
    for _ in range(2):  # a run that goes on lays everything again
        collect(steps / "index", output)
    found = {str(path.relative_to(output)): path.read_text() for path in output.rglob("*") if path.is_file()}
    found.pop(RECORD)
    assert found == {
        "overview.html": "page", "leaderboard.json": "leaderboard", "leaderboard.md": "ranking",
        "report.html": "report", "quality.md": "quality", "metrics.json": "judgement/metrics.json",
        "summary.md": "judgement/summary.md", "tables.csv": "judgement/tables.csv",
        "plots/a.png": "judgement/plots/a.png", "bundle/config.json": "winner/config.json",
        "bundles/vae/config.json": "vae/config.json", "generated/vae.hdf5": "vae_showers",
        "tuning/vae/overrides.json": "tuning/overrides.json",
    }  # fmt: skip
    assert (output / "report.html").samefile(steps / "report")


def test_a_family_that_fails_in_another_run_leaves_the_folder_and_comes_back(
    tmp_path: Path, made: Callable[[str], SimpleNamespace]
) -> None:
    steps, output = tmp_path / "steps", tmp_path / "output"
    for name in ("vae", "wgan"):
        (steps / name).mkdir(parents=True)
        (steps / name / "config.json").write_text(name)
    for failing, working in (("vae", "wgan"), ("wgan", "vae")):
        records = [
            record("train", {"bundle": made(failing)}, family=failing, failed="it diverged"),
            record("train", {"bundle": made(working)}, family=working),
        ]
        index = Index.gather(records, families=["vae", "wgan"], pipeline="caloforge", run="1", caloforge="0")
        write_json(steps / "index", index.model_dump(mode="json"))
        collect(steps / "index", output)
        assert [path.name for path in (output / "bundles").iterdir()] == [working]
