import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caloforge.ending import Ending, read_ending
from caloforge.runner import RUNNER

TASK = """
import sys, time
from pathlib import Path
from caloforge import ending
from caloforge.components.task import task
from caloforge.errors import InputError
ending.TERMINATION_LOG = Path({message!r})
with task("train", "vae") as work:
    print("started", flush=True)
    {body}
print("went on", flush=True)
"""
SLEEPS = """
    try:
        print("asleep", flush=True)
        time.sleep(60)
    finally:
        print("left in good order", flush=True)
"""


def _start(tmp_path: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    message = tmp_path / "termination-log"
    message.touch()
    return subprocess.Popen(
        [sys.executable, "-P", "-c", TASK.format(message=str(message), body=body.strip())],
        env={**os.environ, "_KFP_RUNTIME": "true", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _ended(tmp_path: Path, process: subprocess.Popen[str]) -> tuple[int, Ending | None, str, str]:
    """Return exit code, ending in the log, message of the pod and standard output."""
    output, log = process.communicate(timeout=60)
    return process.returncode, read_ending(log), (tmp_path / "termination-log").read_text(), output


def test_a_task_that_succeeds(tmp_path: Path) -> None:
    code, ending, message, output = _ended(tmp_path, _start(tmp_path, "pass"))
    assert (code, message, output) == (0, "", "started\nwent on\n")
    assert ending == Ending("train", "vae", "succeeded")


def test_a_task_collects_garbage_seldom(tmp_path: Path) -> None:
    _, _, _, output = _ended(tmp_path, _start(tmp_path, "import gc; print(gc.get_threshold()[2])"))
    assert output == "started\n100\nwent on\n"


def test_a_task_that_fails_says_why(tmp_path: Path) -> None:
    body = 'raise InputError("s3://data/nothing.hdf5: nothing is there")'
    code, ending, message, output = _ended(tmp_path, _start(tmp_path, body))
    assert (code, output) == (1, "started\n")
    assert message == "s3://data/nothing.hdf5: nothing is there"
    assert ending == Ending("train", "vae", "failed", message)


def test_a_family_that_fails_does_not_fail_its_step(tmp_path: Path) -> None:
    body = 'work.failed("diverged at step 12"); work.failed("later")'
    code, ending, message, output = _ended(tmp_path, _start(tmp_path, body))
    assert (code, message, output) == (0, "diverged at step 12", "started\nwent on\n")
    assert ending == Ending("train", "vae", "failed", "diverged at step 12")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_task_that_is_stopped_says_so(tmp_path: Path, number: signal.Signals) -> None:
    process = _start(tmp_path, SLEEPS)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["started\n", "asleep\n"]
    process.send_signal(number)
    code, ending, message, output = _ended(tmp_path, process)
    assert code == (128 + number if number == signal.SIGTERM else -number)
    assert message == f"stopped: {number.name}"
    assert ending == Ending("train", "vae", "failed", message)
    assert output == "left in good order\n"


def test_a_task_ends_with_the_run_that_started_it(tmp_path: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process = _start(tmp_path, SLEEPS, **{RUNNER: str(runner.pid)})
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["started\n", "asleep\n"]
    runner.kill()
    runner.wait()
    start = time.monotonic()
    code, _, message, output = _ended(tmp_path, process)
    assert time.monotonic() - start < 10
    assert (code, message, output) == (128 + signal.SIGTERM, "stopped: SIGTERM", "left in good order\n")
