from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from caloforge.progress import Progress
from caloforge.steps import STEP_LOG, step


def test_progress_says_how_much_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        progress = Progress("training", 100, unit="step", every=0)
        progress.update(25, "loss 0.5")
        progress.update(50, total=60)
    first, second = caplog.messages
    assert first.startswith("training:  25%|")
    assert "25/100" in first
    assert first.endswith("loss 0.5")
    assert "50/60" in second


def test_lines_are_far_apart_but_the_last_always_comes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        progress = Progress("reading", 3, unit="shower", every=3600)
        for done in (1, 2, 3):
            progress.update(done)
    assert len(caplog.messages) == 1
    assert "3/3" in caplog.messages[0]


def test_steps_keep_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "times.jsonl"
    monkeypatch.setenv(STEP_LOG, str(log))
    with step("first"):
        pass

    def fail() -> None:
        with step("second"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    (record,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert record["step"] == "first"
    assert record["process"] <= record["start"] <= record["end"]
