"""Processes that end in every way a training can."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from caloforge.errors import InputError
from caloforge.models.training.worker import TrainingFailed, follow


def run(code: str, **options: float) -> None:
    follow([sys.executable, "-c", textwrap.dedent(code)], what="the training", **options)


def _gone(pid: int) -> bool:
    """Wait for the end of a process that was killed; on a busy machine that takes a moment."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
                continue
        return True
    return False


def test_its_log_is_ours(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="caloforge"):
        run("print('12:00:00  vae: 8 steps'); print('12:00:01  WARNING: slow'); print('noise')")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "vae: 8 steps"),
        ("WARNING", "slow"),
    ]


def test_an_input_error_stays_one() -> None:
    with pytest.raises(InputError, match=r"^unknown key 'widht'$"):
        run("import sys; print('Error: unknown key \\'widht\\'', file=sys.stderr); sys.exit(2)")


def test_its_own_last_word_is_the_reason() -> None:
    with pytest.raises(TrainingFailed, match=r"^vae: no finite gradient in 50 steps$"):
        run("import sys; print('Error: vae: no finite gradient in 50 steps', file=sys.stderr); sys.exit(1)")


def test_one_that_fails_without_a_word_is_quoted() -> None:
    with pytest.raises(TrainingFailed, match=r"the training failed \(exit status 1\); it ended with:\n(.|\n)*ZeroDiv"):
        run("1 / 0")


def test_one_that_dies_is_named_with_the_signal() -> None:
    with pytest.raises(TrainingFailed, match=r"the training was killed \(SIGSEGV\)"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


def test_time_is_bounded() -> None:
    with pytest.raises(TrainingFailed, match=r"^out of time: not done after 0\.5 s$"):
        run("import time; time.sleep(600)", seconds=0.5)


def test_what_is_out_of_time_may_clear_up(tmp_path: Path) -> None:
    """What waits for a TrainJob has to delete it: two pods with GPUs would train on for nobody."""
    with pytest.raises(TrainingFailed, match=r"^out of time"):
        run(
            f"""
            import pathlib, signal, sys, time
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            try:
                time.sleep(600)
            finally:
                pathlib.Path({str(tmp_path / "cleared")!r}).write_text("")
            """,
            seconds=2,
        )
    assert (tmp_path / "cleared").exists()


def test_what_does_not_end_in_time_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of torchrun have sessions of their own, and hold memory and the pipe of the log."""
    monkeypatch.setattr("caloforge.child.STOP_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match=r"^out of time"):
        run(
            f"""
            import pathlib, signal, subprocess, sys, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
            pathlib.Path({str(tmp_path / "worker")!r}).write_text(str(worker.pid))
            time.sleep(60)
            """,
            seconds=4,
        )
    assert time.monotonic() - began < 40
    assert (tmp_path / "worker").exists()
    worker = int((tmp_path / "worker").read_text())
    assert _gone(worker)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself writes the file that the kernel would: it takes memory until it is killed."""
    (tmp_path / "memory.max").write_text(str(3 * 2**30))
    (tmp_path / "memory.current").write_text("0")
    monkeypatch.setattr("caloforge.memory.CGROUP", tmp_path)
    with pytest.raises(TrainingFailed, match=r"^OOMKilled: memory is 3Gi$"):
        run(f"""
            import pathlib, time
            pathlib.Path({str(tmp_path / "memory.current")!r}).write_text(str(3 * 2**30))
            time.sleep(600)
        """)


def test_what_was_told_to_end_and_saved_itself_is_no_failure() -> None:
    with pytest.raises(SystemExit) as ended:
        run("import sys; sys.exit(143)")
    assert ended.value.code == 143


def test_an_interruption_reaches_it_and_waits_until_it_has_saved(tmp_path: Path) -> None:
    child = f"""
        import pathlib, signal, sys, time
        def save(*_):
            time.sleep(0.3)
            pathlib.Path({str(tmp_path / "saved")!r}).write_text("state")
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path({str(tmp_path / "ready")!r}).write_text("")
        time.sleep(600)
    """
    parent = f"""
        import signal, sys
        from caloforge.models.training.worker import follow
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        follow([sys.executable, "-c", {textwrap.dedent(child)!r}], what="the training")
    """
    process = subprocess.Popen([sys.executable, "-P", "-c", textwrap.dedent(parent)], env=dict(os.environ))
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert (tmp_path / "saved").exists()
    assert not any(child.is_running() for child in children)
