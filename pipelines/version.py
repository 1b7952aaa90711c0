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
    "caloforge.tuning",
    "caloforge.validation",
)
"""In an editable installation they lie in different folders."""


SUFFIXES = (".py", ".yaml", ".xml", ".j2", ".hpp", ".cpp")
"""Code, presets, geometries and the report's template: all of them make results."""


def code_version() -> str:
    """Return the package's version and a digest of its source files.

    The git revision would not do: it stays the same while a changed tree is being tried.
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        files = (path for path in Path(spec.origin).parent.rglob("*") if path.suffix in SUFFIXES)
        for path in sorted(files):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{__version__}+{digest.hexdigest()[:12]}"
