"""Feed the commands with damaged, wrong and absurd files, and count tracebacks and wrong acceptances.

Usage: python benchmarks/input_fuzz.py [--n 600] [--seed 0] [--keep FOLDER]

Each case is one file: showers, a binning XML, a file of prepared data or of a bundle (with its checksum set right, so
that what comes after the checksum is reached), or settings. A case of a listed kind (its name begins with "!") must be
refused with exit code 2 and one line that names the file; any other may also be taken, as a flipped bit may hit what
nobody reads. Every command runs in this process, with 6 GiB of memory. One line for each failure, and a table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import pickle
import resource
import shutil
import sys
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloforge.cli import main
from caloforge.files import sha256

MEMORY = 6 * 2**30
ROWS = 260
Random = np.random.Generator


@dataclass(frozen=True)
class Case:
    """A file, and the command that gets it; a name with "!" must be refused."""

    name: str
    file: Path
    command: list[str]


class Base:
    """Files that are right, of which the others are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = Path(str(files("caloforge") / "data" / "demo_showers.hdf5"))
        with h5py.File(source) as file:
            self.energy, self.voxels = file["incident_energies"][:ROWS], file["showers"][:ROWS]
            self.attributes = dict(file.attrs)
        self.xml = self.attributes["geometry_xml"]
        self.showers = self.write(folder / "showers.hdf5")
        self.prepared, self.bundle = folder / "prepared", folder / "bundle"
        (folder / "steps.yaml").write_text("{training: {steps: 2}, energies: {steps: 2}}\n")
        self.make(["preprocess", "--data", str(self.showers), "-o", str(self.prepared)])
        self.make(["train", "--data", str(self.showers), "--prepared", str(self.prepared), "--family", "vae",
                   "--overrides", str(folder / "steps.yaml"), "-o", str(self.bundle)])  # fmt: skip

    def make(self, command: list[str]) -> None:
        code, said = run(command)
        if code != 0:
            sys.exit(f"{' '.join(command)}: {said}")

    def write(self, path: Path, attributes: dict[str, Any] | None = None, **changes: Any) -> Path:
        columns = {"incident_energies": self.energy, "showers": self.voxels, **changes}
        with h5py.File(path, "w") as file:
            for name, values in columns.items():
                if values is not None:
                    file[name] = values
            for name, value in {**self.attributes, **(attributes or {})}.items():
                if value is not None:
                    file.attrs[name] = value
        return path


def spoiled(values: np.ndarray, row: int, value: float) -> np.ndarray:
    changed = values.astype(float).copy()
    changed[row] = value
    return changed


def column(value: Any, shape: tuple[int, ...] = (ROWS, 1)) -> np.ndarray:
    return np.full(shape, value)


def wrong_showers(base: Base, rng: Random) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the listed kinds: name and changes of the file."""
    row = int(rng.integers(ROWS))
    for value in (np.nan, np.inf, -np.inf, 0.0, -5.0, 1e300, 1e-300):
        yield f"!one incident energy {value}", {"incident_energies": spoiled(base.energy, row, value)}
    for angle in ("theta", "phi", "eta"):
        for value in (np.nan, np.inf, 1e4, -1e4):
            yield f"!{angle} {value}", {f"incident_{angle}": spoiled(column(0.5), row, value)}
        for shape in ((ROWS, 2), (1, ROWS), (ROWS - 1, 1), (ROWS, 1, 1), ()):
            yield f"!{angle} of shape {shape}", {f"incident_{angle}": column(0.5, shape)}
        yield f"!{angle} as text", {f"incident_{angle}": column(b"0.5")}
    yield "!all in GeV", {"incident_energies": base.energy / 1e3, "showers": base.voxels / 1e3}
    yield "!voxels in GeV", {"showers": base.voxels / 1e3}
    yield "!energies in GeV", {"incident_energies": base.energy / 1e3}
    yield "!fractions", {"showers": base.voxels / base.energy}
    for unit in ("GeV", b"keV", "energies in eV"):
        yield f"!units {unit!r}", {"attributes": {"units": unit}}
    for values in (base.energy[:, 0].astype("S12"), column(True), column(1j), h5py.Empty("f4"), np.float64(1e4)):
        yield f"!incident energies {getattr(values, 'dtype', '')}", {"incident_energies": values}
    for shape in ((ROWS, 1, 480), (ROWS * 480,), (ROWS, 479), (0, 480)):
        yield f"!showers of shape {shape}", {"showers": np.ones(shape, "f4")}
    yield "!showers as text", {"showers": np.full((ROWS, 480), b"1.0")}
    yield "!no showers", {"showers": None}
    yield "!no energies", {"incident_energies": None}
    yield "!link to nothing", {"showers": h5py.SoftLink("/gone")}
    yield "!link to a missing file", {"showers": h5py.ExternalLink("gone.hdf5", "/showers")}
    for value in ("<Bins/>", "{}", b"\xff\xfe", np.ones(3), ""):
        yield f"!geometry_xml {value!r}", {"attributes": {"geometry_xml": value}}
    for edges in ("0,nan", "0,inf", "nan", "0,1e300", "5,3", "-1,2", "x", ""):
        text = base.xml.replace('r_edges="', f'r_edges="{edges}" old="', 1)
        yield f"!r_edges {edges}", {"attributes": {"geometry_xml": text}}
    for value in (np.nan, -1.0, 0.0, np.inf, "15 keV", np.ones(2)):
        yield f"!threshold {value}", {"attributes": {"energy_threshold": value}}
    latin = np.bytes_("Université".encode("latin-1"))
    yield "a text in Latin-1", {"attributes": {"source": latin, "note": np.bytes_(bytes(rng.bytes(9)))}}


def virtual(base: Base, path: Path, rng: Random) -> None:
    base.write(path, showers=None)
    layout = h5py.VirtualLayout(base.voxels.shape, "f4")
    stop = int(rng.integers(1, ROWS))
    layout[:stop] = h5py.VirtualSource(path if rng.random() < 0.5 else "gone.hdf5", "part", base.voxels.shape)[:stop]
    with h5py.File(path, "a") as file:
        file["part"] = base.voxels
        file.create_virtual_dataset("showers", layout)


def absurd(base: Base, path: Path, rng: Random) -> None:
    base.write(path, showers=None)
    with h5py.File(path, "a") as file:
        rows = 10 ** int(rng.integers(7, 15))
        made = file.create_dataset("showers", (rows, 480), "f4", chunks=(10, 480))
        if rng.random() < 0.5:
            made[:10] = base.voxels[:10]


def awkward(base: Base, path: Path, rng: Random) -> Iterator[str]:
    """Write files that HDF5 reads into memory, invents or crashes of, one after the other; yield the name of each."""
    n, m = ROWS, base.voxels.shape[1]

    def begun() -> h5py.File:
        base.write(path, showers=None)
        return h5py.File(path, "a")

    for kind, value in (
        (h5py.ref_dtype, None), (h5py.string_dtype(), "1"), (np.dtype([("e", "f4")]), (1.0,)),
        (np.dtype("V8"), np.void(b"12345678")),
    ):  # fmt: skip
        with begun() as file:
            data = file.create_dataset("showers", (n, m), kind)
            data[0, 0] = file["incident_energies"].ref if value is None else value
        yield f"!showers of {kind}"
    for source in (".", path.name):
        with begun() as file:
            layout = h5py.VirtualLayout((n, m), "f4")
            layout[:] = h5py.VirtualSource(source, "showers", (n, m))
            file.create_virtual_dataset("showers", layout)
        yield f"!joined from itself by {source}"
    with begun() as file:
        chunks = file.create_dataset("showers", (n, m), "f4", chunks=(20, m), compression="gzip")
        chunks[: int(rng.integers(20, n - 20))] = 1.0
    yield "!chunks that were never written"
    with begun() as file:
        chunks = file.create_dataset("showers", data=base.voxels, chunks=(20, m), compression="gzip")
        chunks.id.write_direct_chunk((20, 0), zlib.compress(bytes(int(rng.integers(2)) * 10**9 + 7)))
    yield "!a chunk that is not as large as it says"
    with begun() as file:
        chunks = file.create_dataset(
            "showers", (n, m), "f4", chunks=(2 * 10**6, m), maxshape=(None, m), compression="gzip"
        )
        chunks.id.write_direct_chunk((0, 0), zlib.compress(base.voxels.tobytes()))
    yield "a chunk of 3.8 GB"
    with begun() as file:
        file.create_dataset("showers", (n, m), "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)])
    yield "!numbers of another file"
    for kind in (">f4", "f2", "f8", "i4"):
        base.write(path, showers=base.voxels.astype(kind))
        yield f"numbers as {kind}"
    (path).write_bytes(pickle.dumps(base.voxels))
    yield "!a pickle"
    (path).write_bytes(b"root" + rng.bytes(400))
    yield "!ROOT's beginning"


def damage(content: bytes, rng: Random) -> bytes:
    """Flip, cut, repeat or replace bytes."""
    kind = rng.integers(5)
    if kind == 0 or not content:
        return content[: int(rng.integers(len(content) + 1))]
    if kind == 1:
        return bytes(rng.bytes(int(rng.integers(1, 4000))))
    if kind == 2:
        return b"<html><body>404 Not Found</body></html>"
    found = bytearray(content)
    spread = len(found) if kind == 3 else min(len(found), 2000)  # headers are at the beginning
    for _ in range(int(rng.integers(1, 30))):
        found[int(rng.integers(spread))] = int(rng.integers(256))
    return bytes(found)


def shower_cases(base: Base, rng: Random, folder: Path) -> Iterator[Case]:
    while True:
        for name, changes in wrong_showers(base, rng):
            file = folder / "showers.hdf5"
            base.write(file, **changes)
            yield preprocess(name, file)
        for name, make in (("!virtual", virtual), ("!absurd", absurd)):
            for _ in range(3):
                make(base, folder / "showers.hdf5", rng)
                yield preprocess(name, folder / "showers.hdf5")
        for name in awkward(base, folder / "showers.hdf5", rng):
            yield preprocess(name, folder / "showers.hdf5")
        for _ in range(40):
            (folder / "showers.hdf5").write_bytes(damage(base.showers.read_bytes(), rng))
            yield preprocess("damaged showers", folder / "showers.hdf5")


def preprocess(name: str, file: Path, *more: str) -> Case:
    return Case(name, file, ["preprocess", "--data", str(file), "-o", "{out}", *more])


def xml_cases(base: Base, rng: Random, folder: Path) -> Iterator[Case]:
    file, good = folder / "mine.xml", base.xml
    changes: dict[str, Any] = {
        "!nan": good.replace("0,", "nan,", 1), "!inf": good.replace('" n_bin', ',inf" n_bin', 1),
        "!no layers": "<Bins><Bin/></Bins>", "!no bins": "<Bins/>", "!empty": "", "!json": "{}",
        "!absurd": good.replace('n_bin_alpha="', 'n_bin_alpha="9999999', 1), "!deep": "<a>" * 20000,
        "!text for a number": good.replace('id="0"', 'id="zero"', 1), "!other mesh": good.replace('n_bin_alpha="8"', 'n_bin_alpha="7"'),
        "!entities": '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1 if i else str()};" * 10}">' for i in range(9)) + "]><Bins>&a8;</Bins>",
        "a namespace": good.replace("<Bins>", '<Bins xmlns="urn:x">'),
        "UTF-16": ('<?xml version="1.0" encoding="UTF-16"?>' + good).encode("utf-16"),
        "a comment": good.replace("<Bins>", "<Bins><!-- of mine -->"),
    }  # fmt: skip
    while True:
        for name, content in changes.items():
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
            yield preprocess(f"{name} (XML)", file, "--geometry", str(file))
        for _ in range(20):
            file.write_bytes(damage(good.encode(), rng))
            yield preprocess("damaged XML", file, "--geometry", str(file))


ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    0,
    1e300,
    10**30,
    True,
    [],
    {},
    [1, 2, 3],
    {"a": 1},
    ["x"] * 3,
    "../../x",
    "\x00\n",
)


def spoil(content: Any, rng: Random) -> Any:
    """Drop, rename or replace one value, however deep."""
    while isinstance(content, dict | list) and content:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(content[key], dict | list) and content[key] and rng.random() < 0.7:
            content = content[key]
            continue
        kind = rng.integers(3)
        if kind == 0:
            del content[key]
        elif kind == 1 and isinstance(content, dict):
            content[f"{key}x"] = content.pop(key)
        else:
            content[key] = ODD[int(rng.integers(len(ODD)))]
        return


def folder_cases(base: Base, rng: Random, folder: Path, kind: str) -> Iterator[Case]:
    """Yield bundles or prepared data in which one file is changed."""
    good = base.bundle if kind == "bundle" else base.prepared
    names = sorted(path.name for path in good.iterdir() if path.suffix != ".md")
    main_file = "config.json" if kind == "bundle" else "prepared.json"
    while True:
        target = folder / kind
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(good, target)
        name = main_file if rng.random() < 0.4 else names[int(rng.integers(len(names)))]
        file = target / name
        if name.endswith(".json") and rng.random() < 0.8:
            content = json.loads(file.read_text())
            for _ in range(int(rng.integers(1, 3))):
                spoil(content, rng)
            file.write_text(json.dumps(content))
        elif name.endswith(".safetensors") and rng.random() < 0.5:
            _other_weights(file, rng)
        else:
            file.write_bytes(damage(file.read_bytes(), rng))
        if kind == "bundle":
            _seal(target)
            yield Case(
                f"{kind}: {name}",
                file,
                ["generate", "--bundle", str(target), "--energy", "20000", "--n", "2", "-o", "{out}"],
            )
        else:
            yield Case(
                f"{kind}: {name}", file,
                ["train", "--data", str(base.showers), "--prepared", str(target), "--family", "vae",
                 "--overrides", str(base.folder / "steps.yaml"), "-o", "{out}"],
            )  # fmt: skip


def _seal(target: Path) -> None:
    """Set the checksums right where config.json is still one."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        content = json.loads((target / "config.json").read_text())
        for name in content["files"]:
            if isinstance(name, str) and (target / name).is_file():
                content["files"][name] = sha256(target / name)
        (target / "config.json").write_text(json.dumps(content))


def _other_weights(file: Path, rng: Random) -> None:
    from safetensors.numpy import load_file, save_file

    state = load_file(file)
    name = sorted(state)[int(rng.integers(len(state)))]
    kind = rng.integers(4)
    if kind == 0:
        del state[name]
    elif kind == 1:
        state[name] = np.zeros((3, *state[name].shape), state[name].dtype)
    elif kind == 2:
        state[name] = np.full_like(state[name], np.nan) if state[name].dtype.kind == "f" else state[name][:0]
    else:
        state["another"] = state[name]
    save_file(state, file)


SETTINGS = """families: [vae]
max_minutes: 5
seed: 1
image: registry.example.org/team/python-caloforge:1.2.3
pod: {cpu: "2", memory: 8G, env: {A: b}, claims: {data: /data}, labels: {team: calo}, annotations: {a: b}}
resources: {train: {gpus: 1, node_selector: {pool: gpu}, tolerations: [{key: gpu, effect: NoSchedule}]}}
retries: 2
prepare: {threshold: 0.1}
"""
WRONG_SETTINGS = (
    "seed: true", "seed: 1\nseed: 2", "retries: 1000000000", "max_minutes: .inf", "max_minutes: .nan", "families: vae",
    "image: 'a/b:1 c'", "image: \"a/b:1\\n\"", "pod: {env: {1A: x}}", "pod: {env: {A B: x}}", "pod: {labels: {a b: c}}",
    "pod: {labels: {a: 'c d'}}", "pod: {claims: {data: data}}", "pod: {claims: {data: '/a:b'}}", "pod: {memory: lots}",
    "pod: {claims: {a: /x, b: /x}}", "pod: {annotations: {'a b': c}}", "pod: {memory: 8}", "pod: {cpu: -1}",
    "pod: {gpus: -1}", "pod: {env: {A: '{{workflow.name}}'}}", "data: 's3://<bucket>/x.hdf5'", "namespace: A_b",
    "&a [*a]", "[" * 3000, "\x00", "{", "- a", "a: !!python/object/apply:os.system [ls]", "overrides: {vae: {lr: 1}}",
    "prepare: {threshold: -1}", "prepare: {threshold: .inf}", "tuning: {trials: 1.5}", "resources: {trian: {gpus: 1}}",
    "backoff: {seconds: 10000000000}", "distributed: {nodes: 0}", "ttl_seconds: 99999999999", "deploy: 'A B'",
)  # fmt: skip


def settings_cases(rng: Random, folder: Path) -> Iterator[Case]:
    import yaml

    file = folder / "settings.yaml"

    def case(name: str) -> Case:
        return Case(name, file, ["compile", "--settings", str(file), "-o", "{out}"])

    while True:
        for text in WRONG_SETTINGS:
            file.write_text(text)
            yield case(f"!settings {text[:40]!r}")
        for _ in range(25):
            content = yaml.safe_load(SETTINGS)
            for _ in range(int(rng.integers(1, 4))):
                spoil(content, rng)
            file.write_text(yaml.safe_dump(content))
            yield case("spoiled settings")
            file.write_bytes(damage(SETTINGS.encode(), rng))
            yield case("damaged settings")


def run(arguments: list[str]) -> tuple[int | None, str]:
    """Return exit code and standard error of a command; None with a traceback."""
    said = io.StringIO()
    logging.disable()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main.main(arguments)
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
        except BaseException:  # noqa: BLE001 - what is looked for
            return None, traceback.format_exc()
    return 0, said.getvalue()


def judge(case: Case, scratch: Path) -> str:
    """Run a case and say what is wrong with how it ended; empty if nothing is."""
    output = scratch / "out"
    code, said = run([word.replace("{out}", str(output)) for word in case.command])
    if output.is_dir():
        shutil.rmtree(output)
    output.unlink(missing_ok=True)
    if code is None:
        lines = [line for line in said.splitlines() if line.strip()]
        return f"traceback: {lines[-1][:160]} (at {lines[-3].strip() if len(lines) > 2 else ''})"
    if code == 0:
        return "accepted" if case.name.startswith("!") else ""
    lines = said.strip().splitlines()
    if code not in (1, 2) or (code == 1 and case.name.startswith("!")):
        return f"exit code {code}: {said[-160:]}"
    if len(lines) != 1 or len(said) > 1500:
        return f"{len(lines)} lines, {len(said)} characters: {said[:160]}"
    names = (case.file.name, case.file.parent.name)
    if case.name.startswith("!") and not any(name in said for name in names):
        return f"the file is not named: {said[:200]}"
    return ""


def whole(n: int, seed: int, folder: Path) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = np.random.default_rng(seed)
    base = Base(folder)
    makers: dict[str, tuple[float, Callable[[], Iterator[Case]]]] = {
        "showers": (0.35, lambda: shower_cases(base, rng, folder / "case")),
        "XML": (0.15, lambda: xml_cases(base, rng, folder / "case")),
        "bundles": (0.2, lambda: folder_cases(base, rng, folder / "case", "bundle")),
        "prepared": (0.1, lambda: folder_cases(base, rng, folder / "case", "prepared")),
        "settings": (0.2, lambda: settings_cases(rng, folder / "case")),
    }
    (folder / "case").mkdir(exist_ok=True)
    table: Counter[tuple[str, str]] = Counter()
    for kind, (share, make) in makers.items():
        for case, _ in zip(make(), range(round(share * n)), strict=False):
            found = judge(case, folder)
            table[kind, "files"] += 1
            table[kind, "must be refused"] += case.name.startswith("!")
            if found:
                which = found.partition(":")[0] if found.startswith(("traceback", "accepted")) else "other"
                table[kind, which] += 1
                print(f"{kind}: {case.name}: {found}", flush=True)
    print("\n| | files | must be refused | accepted | tracebacks | other |\n|---|---|---|---|---|---|")
    columns = ("files", "must be refused", "accepted", "traceback", "other")
    for kind in makers:
        print(f"| {kind} | " + " | ".join(str(table[kind, column]) for column in columns) + " |")
    return sum(table[kind, column] for kind in makers for column in columns[2:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600, help="number of files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files, in place of one that is removed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        sys.exit(bool(whole(options.n, options.seed, place)))
