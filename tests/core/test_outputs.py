"""Where results go: nothing of others is replaced, no output is an input, links, devices, pipes and mounts are kept."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from caloforge.errors import InputError
from caloforge.outputs import (
    RECORD,
    check_claim,
    check_file,
    check_folder,
    claim_folder,
    put_files,
    result_file,
    result_folder,
)
from caloforge.pipelines.layout import ResultFolder
from caloforge.public_sets import fetch_set
from caloforge.result_kinds import MANIFESTS, PREPARED, ResultKind

REPORT = ResultKind("report", ("a", "b", "plots/*.png"))
BUNDLE = ResultKind("generator bundle", ("a", "weights/*"))
WORK = ResultKind("work", ("steps/*",))


def _tree(folder: Path) -> dict[str, str]:
    """Return the files below a folder, without our record."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


def _lay(path: Path, *, kind: ResultKind = REPORT, overwrite: bool = False, **files: str) -> None:
    with result_folder(path, kind, overwrite=overwrite) as folder:
        for name, text in files.items():
            file = folder / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def test_a_folder_of_ours_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()  # as Kubeflow makes it
    _lay(target, a="1", plots__b="2")
    _lay(target, a="3")
    assert _tree(target) == {"a": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing temporary is left"
    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o644


@pytest.mark.parametrize("name", ["chapter.tex", "plots/chapter.tex", ".hidden", "a"])
@pytest.mark.parametrize("before", [False, True])
def test_a_folder_with_a_file_of_others_stays(name: str, before: bool, tmp_path: Path) -> None:
    target = tmp_path / "out"
    if before:
        _lay(target, a="ours", plots__b="ours")
    (target / name).parent.mkdir(parents=True, exist_ok=True)
    (target / name).write_text("mine", encoding="utf-8")
    there = _tree(target)
    with pytest.raises(InputError, match=rf"out: holds {name}, which caloforge did not write.*--overwrite"):
        _lay(target, a="new")
    assert _tree(target) == there
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwriting_keeps_what_is_not_ours(tmp_path: Path) -> None:
    target = tmp_path / "out"
    _lay(target, a="old", plots__b="old")
    (target / "plots" / "mine").write_text("mine", encoding="utf-8")
    _lay(target, overwrite=True, a="new", c="new")
    assert _tree(target) == {"a": "new", "c": "new", "plots/mine": "mine"}
    (target / "a").write_text("with my remarks", encoding="utf-8")
    with pytest.raises(InputError, match=r"a: there already, and not as caloforge left it; move it away"):
        _lay(target, overwrite=True, a="newest")
    assert (target / "a").read_text(encoding="utf-8") == "with my remarks"


@pytest.mark.parametrize("name", ["a", "a/", "plots", "plots/mine.png", "a/deep/mine", "link"])
def test_what_lies_where_a_file_of_ours_goes_is_named_before_the_work(name: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    place = target / ("plots/mine.png" if name == "link" else name)
    place.parent.mkdir(parents=True)
    if name == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.mkdir() if name.endswith("/") else place.write_text("mine", encoding="utf-8")
    began = False
    shown = "plots/mine.png" if name == "link" else name.partition("/")[0] if name.startswith("a") else name
    with (
        pytest.raises(InputError, match=rf"out: {shown}: there already, and not as caloforge left it"),
        result_folder(target, REPORT, overwrite=True),
    ):
        began = True
    assert not began
    assert place.is_symlink() or place.exists()


def test_what_lies_beside_the_files_of_ours_is_not_in_the_way(tmp_path: Path) -> None:
    for name in ("plots/mine.tex", "c", "plots.old"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine", encoding="utf-8")
    _lay(tmp_path / "out", overwrite=True, a="1")
    assert _tree(tmp_path / "out") == {"a": "1", "plots/mine.tex": "mine", "c": "mine", "plots.old": "mine"}


def test_a_result_of_another_kind_stays(tmp_path: Path) -> None:
    _lay(tmp_path / "out", kind=BUNDLE, a="weights")
    with pytest.raises(InputError, match=r"out: holds a generator bundle \(a\), not a report; choose another folder"):
        _lay(tmp_path / "out", b="page")
    assert _tree(tmp_path / "out") == {"a": "weights"}
    _lay(tmp_path / "out", overwrite=True, b="page")
    assert _tree(tmp_path / "out") == {"b": "page"}


def test_what_came_while_the_work_went_on_stays(tmp_path: Path) -> None:
    def work() -> None:
        with result_folder(tmp_path / "out", REPORT) as folder:
            (folder / "a").touch()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "mine").touch()

    with pytest.raises(InputError, match="holds mine, which"):
        work()
    assert _tree(tmp_path / "out") == {"mine": ""}


@pytest.mark.parametrize(
    "record", ['{"laid": {"../victim": ["0"]}}', '{"laid": []}', "[]", "{", '{"laid": {"/etc": []}}']
)
def test_a_record_of_others_leads_nowhere(record: str, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine", encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / RECORD).write_text(record, encoding="utf-8")
    with pytest.raises(InputError, match=RECORD.replace(".", r"\.")):
        _lay(tmp_path / "out", overwrite=True, a="new")
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("way", ["itself", "link", "dots", "above", "link above", "hard link"])
def test_an_output_is_no_input(way: str, tmp_path: Path) -> None:
    source = tmp_path / "in" / "below" / "showers"
    source.parent.mkdir(parents=True)
    source.write_text("showers", encoding="utf-8")
    (tmp_path / "link").symlink_to(source if way == "link" else tmp_path / "in")
    (tmp_path / "same").hardlink_to(source)
    output = {
        "itself": source, "link": tmp_path / "link", "dots": tmp_path / "in" / ".." / "in" / "below" / "showers",
        "above": tmp_path / "in", "link above": tmp_path / "link", "hard link": tmp_path / "same",
    }[way]  # fmt: skip
    with pytest.raises(InputError, match=r"(is|holds) the input .*showers; give another output"):
        check_folder(output, REPORT, inputs=[source], overwrite=True) if "above" in way else check_file(
            output, inputs=[source]
        )


def test_a_file_of_an_input_folder_is_no_output(tmp_path: Path) -> None:
    _lay(tmp_path / "bundle", weights="w")
    with pytest.raises(InputError, match=r"weights: is a file of the input .*bundle"):
        check_file(tmp_path / "bundle" / "weights", inputs=[tmp_path / "bundle"])
    check_file(tmp_path / "bundle" / "showers", inputs=[tmp_path / "bundle"])


@pytest.mark.parametrize("check", [check_folder, check_claim])
@pytest.mark.parametrize("way", ["below", "far/below", "link"])
def test_no_folder_of_results_lies_in_an_input(check: Callable[..., Path], way: str, tmp_path: Path) -> None:
    _lay(tmp_path / "prepared", a="w")
    (tmp_path / "link").symlink_to(tmp_path / "prepared")
    output = tmp_path / "link" / "out" if way == "link" else tmp_path / "prepared" / way
    with pytest.raises(InputError, match=r"lies in the input .*prepared; give another output"):
        check(output, BUNDLE, inputs=[tmp_path / "prepared"])
    check(tmp_path / "prepared.old", BUNDLE, inputs=[tmp_path / "prepared"])


@pytest.mark.parametrize("write", [result_file, partial(result_folder, kind=BUNDLE)])
def test_one_command_at_a_time_writes_a_result(write: Callable[..., Any], tmp_path: Path) -> None:
    target = tmp_path / "result"
    with write(target):
        message = r"result: another command is writing here; wait for its end"
        with pytest.raises(InputError, match=message), write(target):
            pass
        with write(tmp_path / "another"):
            pass
    with write(target):  # it has come to its end
        pass
    assert target.exists()


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Do some work in a process that dies at one of its changes of the disk; return whether it came so far."""
    child = os.fork()
    if child == 0:
        counted = itertools.count(1)

        def dying(change: Callable[..., object], *arguments: object, **options: object) -> object:
            if next(counted) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*arguments, **options)

        for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
            setattr(os, name, partial(dying, getattr(os, name)))
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("way", ["exchanged", "poured", "put"])
def test_whenever_a_process_is_killed_nothing_is_lost_and_nothing_is_left(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before, after = tmp_path / "f", ("a", "b"), ("b", "c")

    def write(text: str, names: tuple[str, ...]) -> None:
        with put_files(folder, REPORT) if way == "put" else result_folder(folder, REPORT) as temporary:
            for name in names:
                (temporary / name).write_text(text)

    def contents() -> dict[str, str]:
        return {path.name: path.read_text() for path in folder.iterdir() if path.name != RECORD and path.is_file()}

    if way == "poured":
        monkeypatch.setattr("caloforge.outputs._must_be_within", lambda target: target.is_dir())
    for call in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        write("old", before)
        more = killed_at(call, lambda: write("new", after))
        if folder.exists():
            now = contents()
            assert now["b"] in ("old", "new")
            assert "a" in now or now["b"] == "new"
        write("new", after)
        assert contents() == dict.fromkeys(after, "new") | ({"a": "old"} if way == "put" else {})
        assert {path.name for path in folder.iterdir()} == {*contents(), RECORD}
        assert list(tmp_path.iterdir()) == [folder]
        if not more:
            break
    assert call > 10


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    _lay(tmp_path / "link", a="1")
    _lay(tmp_path / "link", a="2")
    assert (tmp_path / "link").readlink() == Path("real")
    assert _tree(tmp_path / "real") == {"a": "2"}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "linked").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="holds linked, which caloforge did not write"):
        _lay(tmp_path / "out", a="3")


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_file_in_place_of_a_folder_is_told_before_the_work(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"file.*(is a file; give the name of a folder|cannot write here)"):
        check_folder(tmp_path / path, REPORT)
    with pytest.raises(InputError, match="-: a folder cannot go to standard output"):
        check_folder(Path("-"), REPORT)
    with pytest.raises(InputError, match="is a folder; give the name of a file"):
        check_file(tmp_path)
    assert _tree(tmp_path) == {"file": "mine"}


def test_where_a_folder_itself_must_stay_it_gets_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "volume"
    (target / "lost+found").mkdir(parents=True)
    (target / "lost+found" / "piece").touch()
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == target)
    before = target.stat().st_ino
    for files in ({"a": "1", "plots__b": "1"}, {"a": "2"}):
        _lay(target, **files)
    assert target.stat().st_ino == before
    assert set(_tree(target)) == {"a", "lost+found/piece"}
    assert (target / "a").read_text(encoding="utf-8") == "2"
    assert sorted(path.name for path in target.iterdir()) == [RECORD, "a", "lost+found"]
    assert [path.name for path in tmp_path.iterdir()] == ["volume"], "nothing is put beside a mount"


def test_a_folder_that_the_system_will_not_move_gets_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a mount of the same disk, which cannot be told from a folder."""
    target = tmp_path / "volume"
    _lay(target, a="1")
    replace = Path.replace

    def busy(self: Path, other: Path) -> Path:
        if target in (self, other):
            raise OSError(16, "Device or resource busy", str(target))
        return replace(self, other)

    monkeypatch.setattr(Path, "replace", busy)
    _lay(target, b="2")
    assert _tree(target) == {"b": "2"}


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old", encoding="utf-8")
    for name in ("real", "later"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(name)
        with result_file(tmp_path / "link") as temporary:
            temporary.write_text("new", encoding="utf-8")
        assert (tmp_path / "link").readlink() == Path(name)
        assert (tmp_path / name).read_text(encoding="utf-8") == "new"


def test_pipes_are_written_to(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with result_file(pipe) as temporary:
        temporary.write_bytes(b"showers")
    reader.join(10)
    assert read == [b"showers"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_devices_are_written_to(tmp_path: Path) -> None:
    device = tmp_path / "null"
    with suppress(PermissionError):
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    if not device.exists():
        pytest.skip("devices are made by root only")
    with result_file(device) as temporary:
        temporary.write_bytes(b"showers")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@pytest.mark.parametrize("path", ["-", "/dev/stdout"])
def test_a_minus_is_standard_output(path: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from caloforge.outputs import result_file\n"
        "with result_file(Path(sys.argv[1])) as temporary: temporary.write_bytes(b'showers')"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, cwd=tmp_path, check=True)
    assert done.stdout == b"showers"
    assert not list(tmp_path.iterdir())


def test_a_work_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claim_folder(folder, WORK)
    (folder / "steps").mkdir()
    (folder / "steps" / "a").touch()
    (folder / "notes").write_text("mine", encoding="utf-8")
    claim_folder(folder, WORK)
    with pytest.raises(InputError, match="run: holds a work, not prepared data"):
        claim_folder(folder, PREPARED)
    (tmp_path / "other" / "steps").mkdir(parents=True)
    (tmp_path / "other" / "steps" / "mine").touch()
    with pytest.raises(InputError, match="holds steps/mine, which caloforge did not write"):
        claim_folder(tmp_path / "other", WORK)
    with pytest.raises(InputError, match="steps: there already, and not of caloforge"):
        claim_folder(tmp_path / "other", WORK, overwrite=True)
    assert claim_folder(tmp_path / "other", PREPARED, overwrite=True) == tmp_path / "other"
    assert _tree(tmp_path / "other") == {"steps/mine": ""}


def test_files_are_put_beside_those_of_others(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")

    def put(text: str) -> None:
        with put_files(tmp_path, MANIFESTS) as folder:
            (folder / "base").mkdir()
            (folder / "base" / "a").write_text(text, encoding="utf-8")

    put("old")
    put("new")
    assert _tree(tmp_path) == {"mine": "mine", "base/a": "new"}
    (tmp_path / "base" / "a").write_text("edited", encoding="utf-8")
    with pytest.raises(InputError, match="base/a: there already"):
        put("newest")
    assert _tree(tmp_path) == {"mine": "mine", "base/a": "edited"}


def test_standard_output_may_have_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As within a run on this machine, where kfp.local's threads write to something of its own."""
    monkeypatch.setattr("sys.stdout", object())
    (tmp_path / "pipeline.yaml").write_text("old", encoding="utf-8")
    with result_file(tmp_path / "pipeline.yaml") as temporary:
        temporary.write_text("new", encoding="utf-8")
    assert (tmp_path / "pipeline.yaml").read_text(encoding="utf-8") == "new"


@pytest.mark.parametrize("name", [".mine.part", ".mine.download.part", "caloforge-scratch-mine"])
def test_folders_of_others_that_are_named_like_temporaries_stay(name: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    _lay(target, a="old")
    (target / name).mkdir()
    (target / name / "thesis").write_text("mine", encoding="utf-8")
    with suppress(InputError):  # refused, or written beside
        _lay(target, a="new")
    assert (target / name / "thesis").read_text(encoding="utf-8") == "mine"


def test_who_may_get_at_a_result_stays_as_it_was(tmp_path: Path) -> None:
    folder, file = tmp_path / "out", tmp_path / "file"
    folder.mkdir(mode=0o700)
    file.touch(mode=0o600)
    for _ in range(2):  # empty, and with an earlier result
        _lay(folder, a="1")
        with result_file(file) as temporary:
            temporary.write_text("1", encoding="utf-8")
        assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in (folder, file)] == ["0o700", "0o600"]


def test_an_earlier_result_is_back_where_its_exchange_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out"
    _lay(target, a="old")
    replace = Path.replace

    def interrupted(path: Path, to: Path) -> Path:
        if to == target and path.name == target.name:
            raise KeyboardInterrupt
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _lay(target, a="new")
    assert _tree(target) == {"a": "old"}


def test_a_record_that_says_nonsense_is_refused(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"kind": "report", "laid": {"a": 3}}', encoding="utf-8")
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="damaged; remove it"):
        _lay(tmp_path, a="new")


@pytest.mark.parametrize("address", ["s3://bucket/out", "https://me:secret@host/out", "file:///tmp/out"])
def test_results_go_to_this_machine(address: str) -> None:
    checks = (check_file, lambda path: check_folder(path, REPORT), lambda path: check_claim(path, WORK), ResultFolder)
    for check in (*checks, lambda path: fetch_set("dataset_2", path)):
        with pytest.raises(InputError, match=rf"^{address.partition(':')[0]}://\.\.\.: results go to this machine"):
            check(Path(address))
