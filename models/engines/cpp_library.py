"""The shared library of the C++ sampler: found beside its sources or in the user's cache, or built from the sources."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from caloforge.models.engines.variant import EngineUnavailable

logger = logging.getLogger(__name__)

# Files, not an import: this floor stands below that of serving.
_SOURCES = Path(__file__).resolve().parents[2] / "serving" / "cpp"
_FILES = ("caloforge.hpp", "c_interface.cpp")
_FLAGS = ("-std=c++17", "-O2", "-DNDEBUG", "-shared", "-fPIC", "-pthread")
_PACKAGES = "apt-get install g++ nlohmann-json3-dev"
_LONGEST = 1200
"""Seconds that a compiler may take."""


@cache
def library() -> ctypes.CDLL:
    """Return the library, built where it is not yet; that takes about half a minute, once.

    Raises:
        EngineUnavailable: it is not there, and there is no compiler, or it fails.
    """
    digest = _digest()
    if (found := _opened(_SOURCES / _name(digest), digest)) is not None:
        return found
    folder = _folder()
    if folder is not None and (found := _opened(folder / _name(digest), digest)) is not None:
        return found
    with tempfile.TemporaryDirectory(prefix="caloforge-cpp-") as scratch:
        built = _built(Path(scratch), digest)
        if folder is not None:
            with suppress(OSError):  # a full or read-only disk: it is built again next time
                aside = folder / f"{built.name}.{os.getpid()}"
                shutil.copyfile(built, aside)
                aside.replace(folder / built.name)
        found = _opened(built, digest)
    if found is None:
        raise EngineUnavailable(
            "the C++ sampler was built, but cannot be loaded; is the folder of temporary files noexec?"
        )
    return found


def build_beside_sources() -> Path:
    """Build the library into the package itself, for all who use it; how an image has it without a compiler.

    Raises:
        EngineUnavailable: there is no compiler, or it fails.
    """
    with tempfile.TemporaryDirectory(prefix="caloforge-cpp-") as scratch:
        built = _built(Path(scratch), _digest())
        return Path(shutil.copyfile(built, _SOURCES / built.name))


def _digest() -> str:
    """Return what names the sources and how they are compiled."""
    content = b"".join((_SOURCES / name).read_bytes() for name in _FILES)
    return hashlib.sha256(content + " ".join(_FLAGS).encode()).hexdigest()[:24]


def _name(digest: str) -> str:
    return f"sampler-{digest}-{platform.machine()}.so"


def _folder() -> Path | None:
    """Return the user's folder for it; None where there is none, or others may write there."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root) / "caloforge"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
    except (OSError, RuntimeError):
        return None
    private = about.st_uid == os.getuid() and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if private and os.access(folder, os.W_OK) else None


def _opened(path: Path, digest: str) -> ctypes.CDLL | None:
    """Load a library; None if it is not there or not of these sources."""
    try:
        found = ctypes.CDLL(str(path))
        found.caloforge_digest.restype = ctypes.c_char_p
        return found if found.caloforge_digest() == digest.encode() else None
    except (OSError, AttributeError):
        return None


def _built(folder: Path, digest: str) -> Path:
    target = folder / _name(digest)
    found = [path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))]
    compiler = shlex.split(os.environ.get("CXX", "")) or found[:1]
    if not compiler:
        raise EngineUnavailable(f"there is no C++ compiler to build the sampler with ({_PACKAGES})")
    logger.info("building the C++ sampler, once for this user: half a minute")
    began = time.perf_counter()
    command = [
        *compiler,
        *_FLAGS,
        f'-DCALOFORGE_DIGEST="{digest}"',
        "-o",
        str(target),
        str(_SOURCES / "c_interface.cpp"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineUnavailable(f"the C++ sampler cannot be built: {error}") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error:" in line] or done.stderr.splitlines() or [""]
        raise EngineUnavailable(f"{compiler[0]} cannot build the C++ sampler ({_PACKAGES}): {lines[0].strip()}")
    logger.info("built in %.0f s", time.perf_counter() - began)
    return target
