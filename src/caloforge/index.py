"""The index of a run's results: which artifacts count, where each lies, and what it must hold.

Each step says in a :class:`Record` what it wrote; the last step of a run, which is never taken
from a cache, gathers the records into one :class:`Index`. A step that was taken from a cache hands
on the record of the run that it was done in, so that its artifacts are found wherever they lie.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field

from caloforge.config import Config
from caloforge.errors import InputError
from caloforge.files import read_json
from caloforge.names import plain_name
from caloforge.source import Source

SCHEMA: Literal[1] = 1
"""Number of the format; another one is for another version of this package."""


def _address(address: str) -> str:
    if not address or ".." in re.split(r"[/\\]", address) or not address.isprintable():
        raise ValueError(f"{address!r} is not an address")
    return address


Name = Annotated[str, AfterValidator(plain_name)]
"""A name that may become one of a file: letters, digits, ``_`` and ``-``."""

Address = Annotated[str, AfterValidator(_address)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Artifact(Config):
    """A file or folder that a step wrote.

    Attributes:
        step: the step.
        family: generator family that the step worked on, None if on no single one.
        name: of the step's output.
        address: where it lies, as the step saw it.
        kind: file or folder.
        sha256: digest, see :func:`caloforge.files.digest`.
        bytes: its size.
    """

    step: Name
    family: Name | None
    name: Name
    address: Address
    kind: Literal["file", "folder"]
    sha256: Sha256
    bytes: int = Field(ge=0)


class Record(Config):
    """What one step has to say, as JSON its output parameter ``record``.

    Attributes:
        step: the step.
        family: that it worked on, None if on no single one.
        failed: why the family failed; empty: it did not.
        data: the showers, from the step that knows them.
        artifacts: those that count; none of a family that failed.
    """

    step: Name
    family: Name | None = None
    failed: str = ""
    data: Source | None = None
    artifacts: tuple[Artifact, ...] = ()


class Failure(Config):
    """Why there is no generator of a family.

    Attributes:
        family: the family.
        step: in which it failed.
        reason: in one line.
    """

    family: Name
    step: Name
    reason: str


class Index(Config):
    """The results of a run.

    Attributes:
        index: number of the format.
        pipeline: name of the pipeline.
        run: identifier of the run.
        caloforge: version of the package.
        families: of the loop, in the order of its iterations.
        failed: families without a generator.
        data: the showers, None if not known.
        url: of the deployed generator, empty without one.
        artifacts: in the order of the steps.
    """

    index: Literal[1] = SCHEMA
    pipeline: str
    run: str
    caloforge: str
    families: tuple[Name, ...]
    failed: tuple[Failure, ...] = ()
    data: Source | None = None
    url: str = ""
    artifacts: tuple[Artifact, ...]

    @classmethod
    def gather(cls, records: Iterable[str], *, families: Sequence[str], **named: Any) -> Self:
        """Join the records of a run's steps.

        Args:
            records: JSON of each step's :class:`Record`, in the order of the steps.
            families: in the order of the loop's iterations.
            named: ``pipeline``, ``run``, ``caloforge`` and ``url``.

        Raises:
            InputError: one of them is not what a step writes.
        """
        parsed = [Record.parse(_read(text), where="record of a step") for text in records]
        failed: dict[str, Failure] = {}
        for record in parsed:
            if record.failed and record.family is not None:  # later steps repeat the first one's reason
                failed.setdefault(record.family, Failure(family=record.family, step=record.step, reason=record.failed))
        content = {
            "families": list(families),
            "failed": [failed[family].model_dump() for family in families if family in failed],
            "data": next((record.data.as_dict() for record in parsed if record.data), None),
            "artifacts": [artifact.model_dump() for record in parsed for artifact in record.artifacts],
        }
        return cls.parse({**named, **content}, where="index")

    @classmethod
    def read(cls, path: Path, *, where: str = "") -> Self:
        """Read the index of a run.

        Args:
            path: the file.
            where: its address, for messages.

        Raises:
            InputError: it is none, or one of another version of this package.
        """
        where = where or str(path)
        content = read_json(path)
        found = content.get("index") if isinstance(content, dict) else None
        if found != SCHEMA:
            text = "is no index of a run" if found is None else f"is an index of format {found}, not {SCHEMA}"
            raise InputError(f"{where}: {text}; was it written by another version of caloforge?")
        return cls.parse(content, where=where)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f"record of a step: not JSON: {text[:80]!r}") from None
