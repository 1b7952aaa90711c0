"""What every artifact carries: versions, git revision, seed and checksums of its inputs."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caloforge import __version__
from caloforge.files import sha256

_LIBRARIES = ("torch", "numpy", "h5py", "zuko", "scikit-learn", "kfp", "kserve", "onnxruntime")


def provenance(*, inputs: Mapping[str, Path] | None = None, seed: int | None = None) -> dict[str, Any]:
    """Return the record that travels with an artifact, as plain JSON values.

    Args:
        inputs: name to file; each file's name and SHA-256 are recorded.
        seed: the seed that made the artifact, if any.
    """
    return {
        "caloforge": __version__,
        "git_revision": git_revision(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "python": platform.python_version(),
        "libraries": _library_versions(),
        "inputs": {name: {"file": path.name, "sha256": sha256(path)} for name, path in (inputs or {}).items()},
    }


@cache
def machine() -> dict[str, Any]:
    """Return what times depend on beside the versions: the processor and its cores."""
    return {"processor": _processor(), "cores": os.cpu_count()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def git_revision() -> str:
    """Return the revision of the source tree, ``-dirty`` if it was changed, or ``unknown``.

    An image has no git: its build sets ``CALOFORGE_GIT_REVISION``.
    """
    if revision := os.environ.get("CALOFORGE_GIT_REVISION"):
        return revision
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@cache
def _library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
