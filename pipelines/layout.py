"""What the folder of a finished run holds: one table, for a run on this machine and for one on Kubeflow."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caloforge.errors import InputError
from caloforge.files import atomic_directory, atomic_file, digest
from caloforge.outputs import RECORD, Written, refuse_address
from caloforge.result_kinds import RUN
from caloforge.temporary import scratch_folder

__all__ = ["PIPELINE", "PLACES", "RECORD", "TIMINGS", "Place", "ResultFolder", "link_file", "link_folder", "names"]

PIPELINE = "pipeline.yaml"
"""What a run on this machine compiled and ran. It is not read again: a run follows its settings."""

TIMINGS = "timings.json"
"""How long its steps took."""


@dataclass(frozen=True)
class Place:
    """Where a user finds an artifact, or a part of one.

    Attributes:
        step: that wrote it.
        artifact: name of the step's output.
        name: within the folder; ``{family}`` stands for the family.
        part: file or folder within the artifact; empty: all of it.
    """

    step: str
    artifact: str
    name: str
    part: str = ""


PLACES = (
    Place("overview", "page", "overview.html"),
    Place("validate", "report", "report.html"),
    Place("validate", "leaderboard", "leaderboard.json"),
    Place("validate", "ranking", "leaderboard.md"),
    Place("validate", "judgement", "metrics.json", part="metrics.json"),
    Place("validate", "judgement", "summary.md", part="summary.md"),
    Place("validate", "judgement", "tables.csv", part="tables.csv"),
    Place("validate", "judgement", "plots", part="plots"),
    Place("preprocess", "quality", "quality.md"),
    Place("preprocess", "energies", "energies"),
    Place("export", "exported", "bundle"),
    Place("optimise", "optimised", "optimised"),
    Place("train", "bundle", "bundles/{family}"),
    Place("distill", "student", "students/{family}"),
    Place("generate", "generated", "generated/{family}.hdf5"),
    Place("tune", "tuning", "tuning/{family}"),
    # Versions before the index had a step for it.
    Place("compare", "leaderboard", "leaderboard.json"),
    Place("compare", "summary", "leaderboard.md"),
)


def names(step: str, artifact: str, family: str | None) -> dict[str, str]:
    """Return where an artifact goes: name in the folder to the part of it; empty if users do not ask for it.

    Raises:
        InputError: it goes to a place for each family, and is of none.
    """
    found = [place for place in PLACES if (place.step, place.artifact) == (step, artifact)]
    if family is None and any("{family}" in place.name for place in found):
        raise InputError(f"{step}: {artifact}: of no family")
    return {place.name.format(family=family): place.part for place in found}


class ResultFolder:
    """The folder that a user looks into after a run.

    What is laid there is written whole or not at all, and without a second copy on the disk where
    that can be. What somebody else put there, or has changed since, is never replaced.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, *, run: str = "") -> None:
        """Look at what is there.

        Args:
            path: the folder; it need not be there yet.
            run: identifier of the run on Kubeflow; empty for one on this machine.

        Raises:
            InputError: it holds the results of another run.
        """
        refuse_address(path)
        self.path = path
        self._run = run
        self._written = Written(path)
        if self._written.kind not in ("", RUN.name):
            raise InputError(f"{path}: holds {self._written.kind}, not a run; choose another folder")
        if self._written.kind and self._written.run != run:
            whose = f"run {self._written.run}" if self._written.run else "a run on this machine"
            raise InputError(f"{path}: holds the results of {whose}; choose another folder")

    def refuse_others(self, wanted: Iterable[str]) -> None:
        """Make sure that nothing is in the way.

        Raises:
            InputError: something is that was not laid, or was changed since.
        """
        in_the_way = [name for name in wanted if self._written.is_others(name)]
        if in_the_way:
            text = (
                f"{self.path}: {', '.join(in_the_way)}: there already, and not as caloforge left it; "
                "move it away or choose another folder"
            )
            raise InputError(text)

    def holds(self, name: str, sha256: str) -> bool:
        """Return whether something is there with this digest."""
        path = self.path / name
        return path.exists() and digest(path)[0] == sha256

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a folder on the same disk, for what is not checked yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        with scratch_folder(self.path) as scratch:
            yield scratch

    def lay(self, step: str, artifact: str, source: Path, *, family: str | None = None) -> list[str]:
        """Put an artifact where users look for it.

        Args:
            step: that wrote it.
            artifact: name of the step's output.
            source: the file or folder.
            family: that the step worked on.

        Returns:
            The names that it got.

        Raises:
            InputError: something that is not ours is in the way, or the folder cannot be written.
        """
        pieces = {name: source / part for name, part in names(step, artifact, family).items()}
        pieces = {name: piece for name, piece in pieces.items() if piece.exists()}
        self.refuse_others(pieces)
        digests = {name: digest(piece)[0] for name, piece in pieces.items()}
        # Written first, so that a run that is killed in between knows its own files again.
        self._note(self._written.begin(digests))
        for name, piece in pieces.items():
            (link_folder if piece.is_dir() else link_file)(piece, self.path / name)
        self._note({**self._written.laid, **{name: [sha256] for name, sha256 in digests.items()}})
        return list(pieces)

    def keep_only(self, wanted: Iterable[str]) -> None:
        """Remove what an earlier run laid and this one has not; what somebody has changed since stays."""
        kept = set(wanted)
        for name in self._written.laid.keys() - kept:
            path = self.path / name
            if not self._written.is_others(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._note({name: sums for name, sums in self._written.laid.items() if name in kept})

    def _note(self, laid: Mapping[str, list[str]]) -> None:
        self._written.note(RUN, laid, run=self._run)


def link_file(source: Path, target: Path) -> None:
    """Put a file at another place of the same disk, atomically and without a second copy where that can be."""
    with atomic_file(target) as temporary:
        temporary.unlink()
        _link(str(source), str(temporary))


def link_folder(source: Path, target: Path) -> None:
    """Put a folder at another place as :func:`link_file` does; what was there before goes."""
    with atomic_directory(target) as temporary:
        shutil.copytree(source, temporary, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
