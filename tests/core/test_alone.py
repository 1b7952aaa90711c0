"""One command at a time in a folder, and nothing left of that."""

from __future__ import annotations

from pathlib import Path

import pytest
from another import taken_by_another

from caloforge.alone import alone
from caloforge.errors import InputError
from caloforge.outputs import own_folder
from caloforge.result_kinds import TUNING


def test_another_command_is_kept_out_and_told(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with taken_by_another(folder):
        message = r"^shown: another command is writing here; wait for its end"
        with pytest.raises(InputError, match=message), alone(folder, shown=Path("shown")):
            pass
        with pytest.raises(InputError, match="another command is writing here"), own_folder(folder, TUNING):
            pass
    with alone(folder):
        assert not list(folder.iterdir()), "nothing is left of a lock"


def test_a_process_may_ask_twice_and_keeps_it_until_the_end(tmp_path: Path) -> None:
    with alone(tmp_path):
        with alone(tmp_path):
            pass
        with alone(tmp_path):
            pass
    with taken_by_another(tmp_path), pytest.raises(InputError, match="another command"), alone(tmp_path):
        pass


def test_the_end_of_a_killed_command_is_waited_for(tmp_path: Path) -> None:
    taken = taken_by_another(tmp_path)
    taken.__enter__()
    ended = []

    def sleep(_: float) -> None:
        if not ended:
            taken.__exit__(None, None, None)
        ended.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.alone.time.sleep", sleep)
        with alone(tmp_path, patience=60):
            assert ended


def test_what_the_other_has_removed_at_its_end_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with alone(folder):
        folder.rmdir()
        with alone(folder):
            assert folder.is_dir()
