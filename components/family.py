"""A generator family that fails ends neither its step nor the run; whoever comes next is told why."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloforge.files import write_json
from caloforge.space import for_want_of_space

FAILED = "failed.json"
"""File in the folder of an artifact of a family that failed."""


@dataclass
class Outcome:
    """How a family did.

    Attributes:
        failed: why it failed, in one line; empty: it did not.
    """

    failed: str = ""


def why_failed(artifact: Any) -> str:
    """Return why the family of an artifact failed, empty if it did not."""
    return str(artifact.metadata.get("failed", ""))


@contextmanager
def family_of(artifact: Any, family: str, ending: Any, *, strict: bool, before: str = "") -> Iterator[Outcome]:
    """Surround the work on one family: what it fails of is kept with its artifact, and the step goes on.

    A wrong input, a setting that does not exist and an interruption still end the step: the first is
    no fault of the family, the last is gone on with.

    Args:
        artifact: of the family; gets the metadata ``family``, and ``failed`` with the reason.
        family: its name.
        ending: of the step (:func:`caloforge.components.task.task`).
        strict: let the step fail as well.
        before: why the family failed in an earlier step; the block is to look at the outcome first.
    """
    outcome = Outcome(before)
    artifact.metadata["family"] = family
    try:
        yield outcome
    except (RuntimeError, MemoryError, ArithmeticError) as error:
        if strict or for_want_of_space(error):  # a full disk is no fault of the family either
            raise
        outcome.failed = " ".join((str(error) or type(error).__name__).split())
    if outcome.failed:
        artifact.metadata["failed"] = outcome.failed
        # kfp takes an artifact without a file for lost.
        shutil.rmtree(artifact.path, ignore_errors=True)  # what there is of it would pass for a result
        Path(artifact.path).unlink(missing_ok=True)
        write_json(Path(artifact.path) / FAILED, {"family": family, "reason": outcome.failed})
        ending.failed(outcome.failed)
