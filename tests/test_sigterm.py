"""A command that is told to end takes what it had half written with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, time
from pathlib import Path
import caloforge.preprocessing.convert as convert
from caloforge.cli import main
from caloforge.outputs import result_file

def slow(sources, output, **_):
    with result_file(output):
        print("writing", flush=True)
        time.sleep(60)

convert.convert = slow
sys.argv = ["caloforge", "convert", *sys.argv[1:]]
main()
"""


def test_nothing_is_left_of_a_command_that_is_told_to_end(small_showers: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", PROGRAM, str(small_showers), "-o", str(tmp_path / "out.hdf5")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert list(tmp_path.iterdir()), "it has begun to write"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
