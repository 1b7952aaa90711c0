"""Which code makes a result: part of the key under which a run keeps finished steps."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

from caloforge import __version__

PACKAGES = (
    "caloforge",
    "caloforge.components",
    "caloforge.models",
    "caloforge.pipelines",
    "caloforge.preprocessing",
    "caloforge.serving",
    "caloforge.validation",
)
"""In an editable installation they lie in different folders."""


def code_version() -> str:
    """Return the package's version and a digest of its source files.

    The git revision would not do: it stays the same while a changed tree is being tried.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in sorted(Path(spec.origin).parent.glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"
