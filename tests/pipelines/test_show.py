import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from caloforge.pipelines.progress import Progress, clock, moment
from caloforge.pipelines.show import live_table, print_status, status_record
from caloforge.pipelines.specification import Step
from caloforge.pipelines.status import Status, StepStatus
from caloforge.pipelines.watch import change_line, end_line

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
END = datetime(2026, 1, 2, 3, 5, 48, tzinfo=UTC)
TRAIN = Step("train", "vae", ("root", "train"))
FAILED = StepStatus(TRAIN, Progress("failed", START, END, attempt=2, cause="OOMKilled: memory is 3Gi"))
NOW = Status(
    "abc",
    "first",
    "failed",
    "",
    (StepStatus(Step("preprocess", "", ("root", "preprocess")), Progress("cached", START, START)), FAILED),
    ("archived",),
    "http://here/#/runs/details/abc",
)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (103, "1:43"), (3600, "1:00:00"), (7505, "2:05:05")]
)
def test_durations(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize("never", ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", None])
def test_times_that_mean_none(never: str | None) -> None:
    assert moment(never) is None
    assert moment("2026-01-02T03:04:05Z") == START


def test_a_duration_is_never_negative() -> None:
    assert Progress("succeeded", END, START).seconds == 0
    assert Progress("succeeded", START, None).seconds is None
    assert Progress("unknown", START, None).seconds is None


def test_a_program_reads_it() -> None:
    assert status_record(NOW) == {
        "run_id": "abc",
        "name": "first",
        "state": "failed",
        "causes": ["train [vae]: OOMKilled: memory is 3Gi"],
        "notes": ["archived"],
        "page": "http://here/#/runs/details/abc",
        "steps": [
            {
                "step": "preprocess", "family": None, "state": "cached", "attempt": 1,
                "start": START.isoformat(), "end": START.isoformat(), "seconds": 0.0, "cause": None,
            },
            {
                "step": "train", "family": "vae", "state": "failed", "attempt": 2,
                "start": START.isoformat(), "end": END.isoformat(), "seconds": 103.0,
                "cause": "OOMKilled: memory is 3Gi",
            },
        ],
    }  # fmt: skip


def test_a_terminal_has_colours_and_the_same_words() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system="standard")
    print_status(NOW, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1;31mfailed" in text
    assert "train [vae]" in text
    assert "attempt 2  OOMKilled: memory is 3Gi" in text
    assert "note: archived" in text


def test_a_file_has_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=20)
    print_status(NOW, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[3] == "  train [vae]  failed  1:43  attempt 2  OOMKilled: memory is 3Gi"


def test_a_live_table_shows_the_last_state() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with live_table(console) as show:
        show(NOW)
    assert "OOMKilled" in console.file.getvalue()  # type: ignore[attr-defined]


def test_lines_of_changes_and_ends() -> None:
    assert change_line(FAILED) == "train [vae]: failed after 1:43, attempt 2: OOMKilled: memory is 3Gi"
    assert end_line(NOW) == "run 'first' failed: train [vae]: OOMKilled: memory is 3Gi"
