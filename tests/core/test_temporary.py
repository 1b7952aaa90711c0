from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from caloforge.files import atomic_directory, atomic_file
from caloforge.space import NoScratch
from caloforge.temporary import scratch_folder

KILLED = """
import os, signal, sys
from pathlib import Path
from caloforge.{module} import {name}
with {name}(Path(sys.argv[1])) as made:
    (made / "half" if made.is_dir() else made).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed_in(module: str, name: str, path: Path) -> None:
    program = KILLED.format(module=module, name=name)
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["atomic_file", "atomic_directory"])
def test_what_a_killed_process_left_goes_with_the_next(name: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    _killed_in("files", name, target)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    with atomic_file(target) if name == "atomic_file" else atomic_directory(target):
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_scratch_of_a_killed_process_goes_with_the_next(tmp_path: Path) -> None:
    _killed_in("temporary", "scratch_folder", tmp_path)
    (left,) = tmp_path.iterdir()
    assert (left / "half").exists()
    (tmp_path / "caloforge-scratch-link").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with scratch_folder(tmp_path) as scratch:
        assert not left.exists()
        with scratch_folder(tmp_path):
            assert scratch.exists(), "it is in use"
    assert not scratch.exists()
    assert (tmp_path / "mine" / "file").exists()


def test_a_folder_that_was_about_to_be_replaced_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    with atomic_directory(target) as folder:
        (folder / "a").write_text("old", encoding="utf-8")
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom caloforge.files import atomic_directory\n"
        "replace, target = Path.replace, Path(sys.argv[1])\n"
        "def killed(self, other):\n"
        "    if other == target: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, other)\n"
        "Path.replace = killed\n"
        "with atomic_directory(target) as folder: (folder / 'a').write_text('new')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    with pytest.raises(ZeroDivisionError), atomic_directory(target):
        1 / 0  # noqa: B018
    assert (target / "a").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_directory(tmp_path / "out") as folder:
            (folder / "private").touch(mode=0o600)
        with atomic_file(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    modes = [
        oct(path.stat().st_mode)[-3:] for path in (tmp_path / "out", tmp_path / "out" / "private", tmp_path / "file")
    ]
    assert modes == ["750", "640", "640"]


@pytest.mark.parametrize("name", [".out.my-copy.part", ".out.download.part"])
def test_what_others_named_like_ours_stays(name: str, tmp_path: Path) -> None:
    theirs = tmp_path / name / "thesis"
    theirs.parent.mkdir()
    theirs.touch()
    (tmp_path / "caloforge-scratch-of-mine").mkdir()
    with atomic_file(tmp_path / "out"), scratch_folder(tmp_path):
        pass
    assert theirs.exists()
    assert (tmp_path / "caloforge-scratch-of-mine").exists()


def test_no_folder_for_temporary_files_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setenv("TMPDIR", str(tmp_path / "full"))
    monkeypatch.setattr(tempfile, "gettempdir", none)
    message = rf"^no folder for temporary files: {tmp_path}/full, /tmp.* set TMPDIR to "
    with pytest.raises(NoScratch, match=message), scratch_folder():
        pass
    with scratch_folder(tmp_path):
        pass
