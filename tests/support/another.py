"""Another command that is at work in a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from caloforge.alone import alone
with alone(Path(sys.argv[1])):
    print("begun", flush=True)
    sys.stdin.read()
"""


@contextmanager
def taken_by_another(folder: Path) -> Iterator[None]:
    """Have another process use a folder as long as the block lasts."""
    command = [sys.executable, "-P", "-c", PROGRAM, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield
        finally:
            process.stdin.close()
