"""Break lines of the package one by one, and say which test notices.

Usage: python benchmarks/mutants.py [WORD ...] [--markdown]

Takes the mutants of mutants.yaml, or those whose text or file has one of the words. Each is applied in a temporary
copy of the tree, where its tests run until the first one fails; they must pass in the copy as it is. It ends with 1 if
a mutant survives.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import lightning_fabric  # noqa: F401  # with torch: children have them without an import of their own
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("mutants.yaml")
TIMEOUT = 600


@dataclass(frozen=True)
class Mutant:
    """One broken line.

    Attributes:
        what: what is wrong then.
        file: relative to the root.
        old: text that stands there exactly once.
        new: what is put in its place.
        tests: arguments of pytest; one of these tests must fail.
    """

    what: str
    file: str
    old: str
    new: str
    tests: str

    def text(self, root: Path) -> str:
        """Return the broken file.

        Raises:
            SystemExit: the old text is not there exactly once.
        """
        source = (root / self.file).read_text(encoding="utf-8")
        if (count := source.count(self.old)) != 1:
            sys.exit(f"{LIST.name}: {self.what!r}: its old text is {count} times in {self.file}")
        return source.replace(self.old, self.new)


def mutants() -> list[Mutant]:
    return [Mutant(**entry) for entry in yaml.safe_load(LIST.read_text(encoding="utf-8"))]


class Copy:
    """The tree as it is, committed or not, in a temporary folder; the package is imported from there."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.root = Path(self._folder.name) / "tree"

    def __enter__(self) -> Self:
        self.root.mkdir()
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, encoding="utf-8",
        ).stdout  # fmt: skip
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                (self.root / name).write_bytes((ROOT / name).read_bytes())
        links = self.root / ".links" / "caloforge"
        links.mkdir(parents=True)
        for path in [
            *(self.root / "src" / "caloforge").iterdir(),
            *(path.parent for path in self.root.glob("*/__init__.py")),
        ]:
            (links / path.name).symlink_to(path)
        # For this process' children, and theirs.
        os.environ |= {"PYTHONPATH": str(links.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def first_failure(self, tests: str) -> str | None:
        """Run tests; return the name of the one that failed first, None if all passed.

        A child of this process runs them: what takes longest, the import of torch, is done once for all.

        Raises:
            SystemExit: pytest ran no test.
        """
        arguments = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", *shlex.split(tests)]
        output = self.root.parent / "output.txt"
        child = os.fork()
        if child == 0:
            with output.open("w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                os.chdir(self.root)
                # Bytecode is not written: two versions of a file may have the same size and second.
                sys.dont_write_bytecode = True
                sys.path.insert(0, os.environ["PYTHONPATH"])
                signal.alarm(TIMEOUT)
                code = pytest.main(arguments)
                sys.stdout.flush()
                os._exit(code)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if ended == 0:
            return None
        if ended == -signal.SIGALRM:
            return f"no end within {TIMEOUT} s"
        text = output.read_text(encoding="utf-8")
        if ended != 1:
            sys.exit(f"pytest {tests} ended with {ended}:\n{text[-2000:]}")
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        return found[1] if found else "a test"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    wanted = [
        mutant
        for mutant in mutants()
        if not arguments.words or any(word in mutant.what + mutant.file for word in arguments.words)
    ]
    survivors = 0
    with Copy() as copy:
        files = dict.fromkeys(word for mutant in wanted for word in shlex.split(mutant.tests) if "tests/" in word)
        if failed := copy.first_failure(" ".join(files)):
            sys.exit(f"{failed} fails without any mutant")
        if arguments.markdown:
            print("| mutant | in | killed by |\n|---|---|---|")
        for mutant in wanted:
            path = copy.root / mutant.file
            whole, broken = path.read_text(encoding="utf-8"), mutant.text(copy.root)
            path.write_text(broken, encoding="utf-8")
            killer = copy.first_failure(mutant.tests)
            path.write_text(whole, encoding="utf-8")
            survivors += killer is None
            # Relative to tests/, and without the parameters: the first of several is chance.
            name = "**survives**" if killer is None else killer.removeprefix("tests/").partition("[")[0]
            shown = f"`{name}`" if killer else name
            print(f"| {mutant.what} | `{mutant.file}` | {shown} |" if arguments.markdown else
                  f"{mutant.what} ({mutant.file}): {name}", flush=True)  # fmt: skip
    if survivors:
        sys.exit(f"{survivors} of {len(wanted)} mutants survive")
    print(f"all {len(wanted)} mutants are killed", file=sys.stderr)


if __name__ == "__main__":
    main()
