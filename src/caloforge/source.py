"""Where showers came from: what travels with everything that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where a file came from.

    Attributes:
        address: as it was given, without secrets.
        size: bytes.
        sha256: checksum; empty where it was not worked out: a path, a folder.
        fetched: when, in UTC (ISO 8601); for a path, when it was looked at.
        seconds: that the download took.
    """

    address: str
    size: int
    sha256: str = ""
    fetched: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return one line for reports."""
        when = self.fetched.replace("T", " ").replace("+00:00", " UTC")
        checksum = f", SHA-256 {self.sha256[:12]}" if self.sha256 else ""
        return f"{self.address} ({self.size / 1e6:.1f} MB{checksum}, {when})"

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Source:
        """Return what :meth:`as_dict` wrote; further keys are ignored."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})
