from pathlib import Path

import pytest

from caloforge.errors import InputError
from caloforge.pipelines.layout import RECORD, ResultFolder, link_file


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _shown(folder: Path) -> dict[str, str]:
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in files.items() if name != RECORD}


def test_an_artifact_goes_where_the_table_says(tmp_path: Path) -> None:
    output = tmp_path / "run"
    folder = ResultFolder(output)
    _write(tmp_path / "bundle" / "config.json", "{}")
    for name in ("metrics.json", "plots/a.png", "else"):
        _write(tmp_path / "judgement" / name, name)
    assert folder.lay("train", "bundle", tmp_path / "bundle", family="vae") == ["bundles/vae"]
    assert folder.lay("validate", "judgement", tmp_path / "judgement") == ["metrics.json", "plots"]
    assert folder.lay("train", "metrics", tmp_path / "judgement" / "else", family="vae") == []
    assert _shown(output) == {
        "bundles/vae/config.json": "{}", "metrics.json": "metrics.json", "plots/a.png": "plots/a.png"
    }  # fmt: skip


def test_what_was_laid_before_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "run"
    for text in ("old", "new"):
        _write(tmp_path / "bundle" / f"{text}.json", text)
        ResultFolder(output).lay("train", "bundle", tmp_path / "bundle", family="vae")
        (tmp_path / "bundle" / f"{text}.json").unlink()
    assert _shown(output) == {"bundles/vae/new.json": "new"}


@pytest.mark.parametrize("name", ["report.html", "report.html/", "link"])
def test_what_somebody_else_put_there_is_left_alone(name: str, tmp_path: Path) -> None:
    output, report = tmp_path / "run", _write(tmp_path / "report", "ours")
    if name == "link":
        output.mkdir()
        (output / "report.html").symlink_to(tmp_path / "nowhere")
    else:
        _write(output / (name + "mine" if name.endswith("/") else name), "mine")
    before = _shown(output)
    with pytest.raises(InputError, match=r"run: report\.html: there already.* move it away"):
        ResultFolder(output).lay("validate", "report", report)
    assert _shown(output) == before
    assert not (tmp_path / "nowhere").exists()


def test_what_was_changed_since_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "run"
    ResultFolder(output).lay("validate", "report", _write(tmp_path / "report", "old"))
    (output / "report.html").unlink()  # an editor writes a new file
    _write(output / "report.html", "with my remarks")
    with pytest.raises(InputError, match="not as caloforge left it"):
        ResultFolder(output).lay("validate", "report", _write(tmp_path / "another", "new"))
    assert _shown(output) == {"report.html": "with my remarks"}


@pytest.mark.parametrize("linked", [False, True])
def test_a_run_that_was_killed_in_between_knows_its_own_files(
    linked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    ResultFolder(output).lay("validate", "report", _write(tmp_path / "old", "old"))

    def killed(source: Path, target: Path) -> None:
        if linked:
            link_file(source, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("caloforge.pipelines.layout.link_file", killed)
        with pytest.raises(KeyboardInterrupt):
            ResultFolder(output).lay("validate", "report", _write(tmp_path / "new", "new"))
    ResultFolder(output).lay("validate", "report", _write(tmp_path / "newest", "newest"))
    assert _shown(output) == {"report.html": "newest"}


def test_a_folder_is_of_one_run(tmp_path: Path) -> None:
    report = _write(tmp_path / "report", "of the first")
    ResultFolder(tmp_path / "run", run="1").lay("validate", "report", report)
    with pytest.raises(InputError, match=r"holds the results of run 1; choose another folder"):
        ResultFolder(tmp_path / "run", run="2")
    ResultFolder(tmp_path / "local").lay("validate", "report", report)
    with pytest.raises(InputError, match="the results of a run on this machine"):
        ResultFolder(tmp_path / "local", run="2")


def test_what_is_of_no_family_has_no_place_among_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train: bundle: of no family"):
        ResultFolder(tmp_path / "run").lay("train", "bundle", tmp_path)
