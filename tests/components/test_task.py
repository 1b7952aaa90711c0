import os
import signal
import subprocess
import sys
import time

from caloforge.runner import RUNNER

TASK = """
import time
from caloforge.components.task import task
with task():
    print("started", flush=True)
    try:
        time.sleep(60)
    finally:
        print("left in good order", flush=True)
"""


def test_a_task_ends_with_the_run_that_started_it() -> None:
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    environment = {**os.environ, RUNNER: str(runner.pid), "_KFP_RUNTIME": "true"}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", TASK], env=environment, stdout=subprocess.PIPE, text=True
    ) as task:
        assert task.stdout is not None
        assert task.stdout.readline() == "started\n"
        runner.kill()
        runner.wait()
        start = time.monotonic()
        assert task.wait(timeout=20) == 128 + signal.SIGTERM
        assert time.monotonic() - start < 10
        assert task.stdout.read() == "left in good order\n"
