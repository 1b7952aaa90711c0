"""The sampler in C++, built for this machine and asked through pipes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import caloforge.serving
from caloforge.child import how_it_ended
from caloforge.models.engines.variant import EngineUnavailable
from caloforge.showers import Conditions
from caloforge.tuning.inference.stopwatch import cpu_seconds, peak_megabytes

SOURCES = Path(caloforge.serving.__file__).parent / "cpp"

FAMILIES = ("tree",)
"""Those that the sampler has."""

_PACKAGES = "cmake, a C++ compiler and nlohmann-json3-dev"
_PROGRAM = "caloforge-stopwatch"
_COLUMNS = ("incident_energy", "theta", "phi", "particle")


def build(family: str, folder: Path) -> Path:
    """Build the program that times the sampler, and return it.

    Args:
        family: of the generator.
        folder: for all that the build writes.

    Raises:
        EngineUnavailable: it has no such family, or what builds it is not here.
    """
    if family not in FAMILIES:
        raise EngineUnavailable(f"the sampler has the family {', '.join(FAMILIES)}, not {family}")
    if not (SOURCES / "CMakeLists.txt").is_file():
        raise EngineUnavailable("its sources are serving/cpp of the repository, which an installed package lacks")
    compilers = [os.environ.get("CXX", "c++"), "g++", "clang++"]
    if shutil.which("cmake") is None or not any(map(shutil.which, compilers)):
        raise EngineUnavailable(f"it cannot be built here: {_PACKAGES} are needed")
    _run("cmake", "-S", str(SOURCES), "-B", str(folder))
    _run("cmake", "--build", str(folder), "--config", "Release", "--target", _PROGRAM)
    return folder / _PROGRAM


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace", timeout=900)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["without a word"]
        msg = f"{' '.join(command[:2])} {how_it_ended(done.returncode)}; {_PACKAGES} are needed ({errors[0]})"
        raise EngineUnavailable(msg)


class Compiled:
    """The program at work; made by :func:`running_compiled`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Talk to a process through its pipes."""
        self._process = process
        self._left: list[str] = []
        self.made_by = ""

    def start(self, conditions: Conditions) -> None:
        """Draw the first shower."""
        columns = [
            getattr(conditions, name) if name in conditions.names else [0] * len(conditions) for name in _COLUMNS
        ]
        first, *others = [" ".join(f"{value:.17g}" for value in row) for row in zip(*columns, strict=True)]
        self._left = [*others, ""]
        self.made_by = self._ask(first)

    def seconds(self, n: int) -> float:
        """Return how long n showers take."""
        particles, self._left = self._left, []
        return float(self._ask(*particles, str(n)))

    def peak_megabytes(self) -> float:
        """Return the most memory that the process has had so far."""
        return peak_megabytes(self._process.pid)

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""
        return cpu_seconds(self._process.pid)

    def _ask(self, *lines: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("".join(f"{line}\n" for line in lines))
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end says why
        if not (answer := self._process.stdout.readline().strip()):
            assert self._process.stderr is not None
            told = self._process.stderr.read().strip().splitlines()
            raise EngineUnavailable(told[0] if told else f"its process {how_it_ended(self._process.wait())}")
        return answer


@contextmanager
def running_compiled(program: Path, bundle: Path, threads: int) -> Iterator[Compiled]:
    """Start the program, which ends with the block."""
    pipe = subprocess.PIPE
    command = [str(program), str(bundle), str(threads)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        yield Compiled(process)
    finally:
        process.kill()
        process.communicate()
