"""The ways to get showers from a bundle: this package, its graph alone, the sampler in C++, and the server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Protocol

from caloforge.files import read_json, write_json
from caloforge.models.bundle import Generator, load_bundle, read_bundle_config, seal_bundle
from caloforge.models.engines.variant import VARIANT_FILE, EngineUnavailable, Variant
from caloforge.models.export import ONNX_FILE
from caloforge.showers import Conditions
from caloforge.tuning.inference.candidates import plain
from caloforge.tuning.inference.compiled import build, running_compiled
from caloforge.tuning.inference.served import PROTOCOLS, serving
from caloforge.tuning.inference.stopwatch import running

_LIBRARIES = {"pytorch": "torch", "onnxruntime": "onnxruntime"}
"""Engines, and the packages that they need."""


class Drawer(Protocol):
    """What draws showers in a process of its own, and is timed."""

    def start(self, conditions: Conditions) -> Any:
        """Draw the first of the showers with these conditions."""

    def seconds(self, n: int) -> float:
        """Return how long the first n take."""

    def peak_megabytes(self) -> float:
        """Return the most memory that the process has had so far."""

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has used so far."""


Open = Callable[[], AbstractContextManager[Mapping[str, Drawer]]]


@dataclass(frozen=True)
class Way:
    """One process, and what is timed in it.

    Attributes:
        names: what tables call it; several for a server, that has several protocols.
        threads: 1, or 0 for as many as there are.
        runs: what computes the showers in it; empty where that is its name.
        open: starts it, and yields what draws under each name; raises EngineUnavailable.
        file: the generator itself, as it is read there.
        library: what it needs beside, a file or the name of a package; empty: nothing is known.
    """

    names: tuple[str, ...]
    threads: int
    runs: str
    open: Open
    file: Path
    library: str | Path = ""

    @property
    def library_mb(self) -> float:
        """Size on disk of what it needs beside the generator, without what that needs in turn."""
        if not self.library:
            return 0.0
        return self.library.stat().st_size / 1e6 if isinstance(self.library, Path) else _package_mb(self.library)


def ways(bundle: Path, exported: Path, generator: Generator, scratch: Path) -> Iterator[Way]:
    """Yield all ways, PyTorch as it is first, with one thread and then with all.

    Args:
        bundle: the generator's folder.
        exported: its bundle with a graph.
        generator: as PyTorch runs it.
        scratch: a folder for what has to be made.
    """
    files = read_bundle_config(bundle)["files"]
    chosen = Variant.parse(read_json(bundle / VARIANT_FILE), where=VARIANT_FILE) if VARIANT_FILE in files else None
    served = load_bundle(bundle, device=generator.device.type).variant
    program = _program(generator.family, scratch / "cpp")
    for threads in (1, 0) if (os.cpu_count() or 1) > 1 else (1,):
        yield _python(bundle, plain(generator).model_copy(update={"name": "PyTorch", "threads": threads}), threads)
        if chosen is not None and (threads or chosen.threads != 1):
            update = {"name": f"{chosen.name} (chosen)", "threads": threads or chosen.threads}
            yield _python(bundle, chosen.model_copy(update=update), threads)
        yield _graph(exported, threads)
        yield _cpp(bundle, program, threads)
        yield _server(bundle, served, generator, threads, scratch)


def _python(bundle: Path, variant: Variant, threads: int) -> Way:
    file = bundle / (variant.graph or "weights.safetensors")
    opened = partial(_one, variant.name, lambda: running(bundle, variant, bundle, cold=True))
    return Way((variant.name,), threads, "", opened, file, _LIBRARIES.get(variant.engine, ""))


def _graph(exported: Path, threads: int) -> Way:
    variant = Variant(name="ONNX Runtime", engine="onnxruntime", graph=ONNX_FILE, threads=threads)
    opened = partial(_one, variant.name, lambda: running(None, variant, exported, cold=True))
    return Way((variant.name,), threads, "", opened, exported / ONNX_FILE, "onnxruntime")


def _program(family: str, folder: Path) -> Path | EngineUnavailable:
    """Return the program in C++, or why there is none."""
    try:
        return build(family, folder)
    except EngineUnavailable as error:
        return error


def _cpp(bundle: Path, program: Path | EngineUnavailable, threads: int) -> Way:
    def opened() -> AbstractContextManager[dict[str, Drawer]]:
        if isinstance(program, EngineUnavailable):
            raise program
        return _one("C++", lambda: running_compiled(program, bundle, threads or os.cpu_count() or 1))

    library = program if isinstance(program, Path) else ""
    return Way(("C++",), threads, "", opened, bundle / "weights.safetensors", library)


def _server(bundle: Path, variant: Variant, generator: Generator, threads: int, scratch: Path) -> Way:
    """Return the server of a bundle, which runs as its variant does."""
    served = bundle
    if threads and variant.threads != threads:
        served = scratch / "one_thread"
        _with_variant(bundle, variant.model_copy(update={"threads": threads}), served)
    opened = partial(serving, served, generator.condition_names)
    file = bundle / (variant.graph or "weights.safetensors")
    return Way(tuple(PROTOCOLS.values()), threads, variant.name, opened, file, _LIBRARIES.get(variant.engine, ""))


def _with_variant(bundle: Path, variant: Variant, folder: Path) -> None:
    """Copy a bundle that is run as another variant."""
    config = read_bundle_config(bundle)
    folder.mkdir()
    for name in config["files"]:
        shutil.copyfile(bundle / name, folder / name)
    write_json(folder / VARIANT_FILE, variant.model_dump(mode="json"))
    seal_bundle(folder, {key: value for key, value in config.items() if key != "files"})


@contextmanager
def _one(name: str, start: Callable[[], AbstractContextManager[Drawer]]) -> Iterator[dict[str, Drawer]]:
    with start() as drawer:
        yield {name: drawer}


@cache
def _package_mb(name: str) -> float:
    try:
        files = distribution(name).files or []
    except (PackageNotFoundError, ValueError):
        return 0.0
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
