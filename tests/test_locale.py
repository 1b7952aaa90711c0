"""The command line where the locale is not UTF-8."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caloforge.files import read_json

pytestmark = pytest.mark.slow

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "caloforge", *arguments],
        cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False,
    )  # fmt: skip


def test_names_of_files_in_an_ascii_locale(small_showers: Path, tmp_path: Path) -> None:
    shutil.copy(small_showers, tmp_path / "Schauer_ß.hdf5")
    (tmp_path / "settings.yaml").write_text("# für ß\n{}\n", encoding="utf-8")
    done = run(
        "preprocess", "--data", "Schauer_ß.hdf5", "--settings", "settings.yaml", "-o", "für", folder=tmp_path, **ASCII
    )
    assert done.returncode == 0, done.stderr.decode()
    assert read_json(tmp_path / "für" / "prepared.json")["source"]["address"] == "Schauer_ß.hdf5"


def test_output_that_cannot_show_a_letter(tmp_path: Path) -> None:
    done = run("compile", "-o", "Σ.yaml", folder=tmp_path, PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout) == (0, b"wrote ?.yaml\n"), done.stderr.decode()
