"""One supervisor of all processes that the package starts: nothing it started outlives it, and it may save itself."""

import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from caloforge.child import Child, how_it_ended


def start(code: str, **options: object) -> Child:
    return Child([sys.executable, "-c", textwrap.dedent(code)], what="it", **options)  # type: ignore[arg-type]


def _appears(path: Path) -> str:
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.read_text(encoding="utf-8")


def test_what_is_left_is_told_to_end_and_waited_for(tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, sys, time
        def save(*_):
            time.sleep(0.2)
            print("saved", flush=True)
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        pathlib.Path({str(tmp_path / "ready")!r}).write_text("yes")
        time.sleep(600)
    """
    heard: list[str] = []
    child = start(code, hear=heard.append)

    def interrupted() -> None:
        with child:
            _appears(tmp_path / "ready")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert child.poll() == 143
    assert heard == ["saved\n"]


def test_what_it_started_in_a_session_of_its_own_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun's workers, which go on when torchrun has ended."""
    monkeypatch.setattr("caloforge.child.STOP_SECONDS", 0.5)
    code = f"""
        import pathlib, subprocess, sys, time
        worker = subprocess.Popen(
            [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        pathlib.Path({str(tmp_path / "worker")!r}).write_text(str(worker.pid))
        time.sleep(600)
    """
    with start(code, log=tmp_path / "log") as child:
        worker = psutil.Process(int(_appears(tmp_path / "worker")))
        assert worker.is_running()
    assert child.poll() == -15, "it ended by itself, its worker did not"
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_its_log_is_read_by_whole_lines_and_says_what_it_ended_with(tmp_path: Path) -> None:
    code = f"""
        import pathlib, sys, time
        print("first\\nhalf a", end="", flush=True)
        pathlib.Path({str(tmp_path / "ready")!r}).write_text("yes")
        while not pathlib.Path({str(tmp_path / "go")!r}).exists():
            time.sleep(0.02)
        print(" line", flush=True)
        sys.exit(3)
    """
    with start(code, log=tmp_path / "log") as child:
        _appears(tmp_path / "ready")
        assert child.lines() == ["first"]
        (tmp_path / "go").touch()
        assert how_it_ended(child.wait()) == "failed (exit status 3)"
    assert child.tail() == "first\nhalf a line"
    assert how_it_ended(-11) == "was killed (SIGSEGV)"
