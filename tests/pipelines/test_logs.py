import io

import pytest

from caloforge.pipelines.logs import RunLog

FAILED_TRAINING = """\
1\t    08:00:01.000 - INFO - Executing task \x1b[96m'train'\x1b[0m
2\t08:00:01.000 - INFO - Executing task 'train'
1\t    08:00:02  train vae: started
2\t    08:00:02  train wgan: started
1\t    [KFP Executor 2026-01-01 08:00:02,000 INFO]: Got executor_input: {}
2\t    08:00:03  wgan: 50%
1\t    Traceback (most recent call last):
2\t    08:00:03  WARNING: wgan: slow
1\t    caloforge-end: {"step": "train", "family": "vae", "state": "failed", "cause": "no"}
1\t      File "x.py", line 1, in train
1\t    {error}
1\t08:00:04.000 - ERROR - Task \x1b[96m'train'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m
1\tPipeline 'caloforge' finished with status FAILURE.
"""


def _feed(error: str) -> tuple[RunLog, str]:
    file = io.StringIO()
    log = RunLog(file)
    for line in FAILED_TRAINING.replace("{error}", error).splitlines(keepends=True):
        log.feed(line)
    return log, file.getvalue()


def test_the_failed_task_is_named_with_its_traceback_only() -> None:
    log, _ = _feed("ValueError: no")
    assert log.failed == "train vae"
    assert log.tail().splitlines() == [
        "Traceback (most recent call last):",
        '  File "x.py", line 1, in train',
        "ValueError: no",
    ]
    assert log.input_error is None
    assert log.cause == "no"


def test_a_family_that_failed_in_a_run_that_goes_on_is_told(caplog: pytest.LogCaptureFixture) -> None:
    log = RunLog(io.StringIO())
    with caplog.at_level("INFO", logger="caloforge"):
        for line in (
            "1\t08:00:01.000 - INFO - Executing task 'train'",
            "1\t    08:00:02  train vae: started",
            '1\t    caloforge-end: {"step": "train", "family": "vae", "state": "failed", "cause": "diverged"}',
            "1\t08:00:04.000 - INFO - Task 'train' finished with status SUCCESS",
            "1\t08:00:05.000 - INFO - Executing task 'generate'",
            '1\t    caloforge-end: {"step": "generate", "family": "vae", "state": "succeeded"}',
            "1\t08:00:06.000 - INFO - Task 'generate' finished with status SUCCESS",
        ):
            log.feed(line)
    assert caplog.messages == ["train vae: started", "train vae: failed, and the run goes on: diverged"]
    assert log.failed is None


def test_the_users_error_is_found() -> None:
    log, _ = _feed("caloforge.errors.InputError: bad file")
    assert log.input_error == "bad file"


def test_only_our_lines_are_shown_and_all_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="caloforge"):
        _, written = _feed("ValueError: no")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "train vae: started"),
        ("INFO", "train wgan: started"),
        ("INFO", "wgan: 50%"),
        ("WARNING", "wgan: slow"),
        ("ERROR", "train vae: failed"),
    ]
    assert "executor_input" in written
    assert "caloforge-end" in written
    assert "\x1b" not in written


def test_a_kept_step_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="caloforge"):
        RunLog(io.StringIO()).feed("7\tTask preprocess cache hit (key=0123); skipping execution.\n")
    assert caplog.messages == ["preprocess: kept from an earlier run"]
