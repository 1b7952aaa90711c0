"""Export a bundle to ONNX: conditions and noise, or conditions and a seed, in; voxel energies in MeV out."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.onnx.errors import UnsupportedOperatorError

from caloforge.conditions import COLUMNS
from caloforge.domain import as_dict, spread_over
from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.models.agreement import TOLERANCE, relative_difference, that_must_agree
from caloforge.models.bundle import (
    Generator,
    bundle_folder,
    condition_columns,
    load_bundle,
    read_bundle_config,
    seal_bundle,
)
from caloforge.models.engines.onnx import open_session
from caloforge.models.engines.variant import OPTIMISATION, VARIANT_FILE, VARIANT_GRAPH, Variant
from caloforge.models.family import OPSETS
from caloforge.models.noise import NoiseStream
from caloforge.models.onnx_random import FIRST, NOISE, OLDEST_OPSET, SEED, with_random_numbers
from caloforge.outputs import check_folder, result_folder
from caloforge.result_kinds import BUNDLE
from caloforge.seeds import MAX_SEED, check_seed
from caloforge.showers import Conditions
from caloforge.steps import step

logger = logging.getLogger(__name__)

ONNX_FILE = "generator.onnx"

SEEDED_FILE = "seeded.onnx"
"""File of a bundle with the same graph and the random numbers inside."""


class ExportFailed(RuntimeError):
    """The ONNX file does not make the showers of its generator."""


def export(
    bundle: Path,
    output: Path,
    *,
    steps: int | None = None,
    sampler: Mapping[str, Any] | None = None,
    opset: int | None = None,
    seeded: bool = False,
    overwrite: bool = False,
) -> dict[str, float]:
    """Copy a bundle and add ``generator.onnx``, checked against PyTorch.

    The graph's inputs are the conditions, (N, 1) float32 each (``incident_energy`` in MeV, angles in
    rad, ``particle`` as its PDG code), and ``noise`` (N, noise features) standard normal; its output ``showers`` is (N, V) MeV.
    The transforms are inside the graph. ``seeded.onnx`` has ``seed`` and ``first`` in place of ``noise``, int64 scalars: the
    random numbers are inside, and row i is shower ``first + i`` of the seed, as :meth:`Generator.sample` draws it. Both
    graphs and ``onnx.json`` say names, shapes, units and ranges.

    Args:
        bundle: the generator's folder.
        output: bundle folder to write.
        steps: sampler steps fixed in the graph; None for the family's default.
        sampler: name and settings of the sampler in the graphs, which becomes that of the new bundle; None for the
            bundle's own.
        opset: operator set of the graphs, one of :data:`caloforge.models.family.OPSETS`; None for the oldest that holds
            each, so that old runtimes load it.
        seeded: whether to add ``seeded.onnx``.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Returns:
        ``max_difference`` (largest difference of a voxel over the shower energy), ``megabytes``.

    Raises:
        InputError: the bundle is damaged, the sampler does not fit it, the operator set cannot hold a graph, or the folder
            may not be written.
        ExportFailed: ONNX and PyTorch do not agree.
    """
    if opset is not None and opset not in OPSETS:
        raise InputError(f"operator set {opset}: choose one of {', '.join(map(str, OPSETS))}")
    if seeded and opset is not None and opset < OLDEST_OPSET:
        raise InputError(
            f"operator set {opset} cannot hold the random numbers of {SEEDED_FILE}: it has no BitwiseXor; choose "
            f"{OLDEST_OPSET} or a newer one, or export without it, and hand the noise in"
        )
    bundle = bundle_folder(bundle)
    check_folder(output, BUNDLE, inputs=[bundle], overwrite=overwrite)
    generator = load_bundle(bundle, variant=False, sampler=sampler)
    with step("export"), result_folder(output, BUNDLE, inputs=[bundle], overwrite=overwrite) as folder:
        config = read_bundle_config(bundle)
        for name in config["files"]:
            # What was measured was another graph, and what is seeded is written again or not there.
            if name not in (VARIANT_FILE, VARIANT_GRAPH, SEEDED_FILE, *OPTIMISATION):
                shutil.copyfile(bundle / name, folder / name)
        used = write_onnx(generator, steps, folder / ONNX_FILE, opset=opset)
        contract = _contract(generator, steps, used)
        _save(onnx.load(str(folder / ONNX_FILE)), folder / ONNX_FILE, contract)
        if seeded:
            contract["seeded"] = _write_seeded(generator, steps, folder / SEEDED_FILE, opset=max(used, OLDEST_OPSET))
        write_json(folder / "onnx.json", contract)
        content = {key: value for key, value in config.items() if key != "files"}
        content["settings"] = generator.config["settings"]
        _tell_settings(folder / "README.md", config["settings"], content["settings"])
        seal_bundle(folder, content)
        difference = _difference(generator, folder, steps, seeded=False)
        if seeded:
            difference = max(difference, _difference(generator, folder, steps, seeded=True))
        if difference > TOLERANCE or not np.isfinite(difference):
            msg = (
                f"ONNX and PyTorch differ by {difference:.2g} of the shower energy, more than {TOLERANCE:g}; "
                "the exported file was not kept"
            )
            raise ExportFailed(msg)
        size = (folder / ONNX_FILE).stat().st_size / 1e6
    logger.info("exported %s: %.1f MB, largest difference to PyTorch %.2g of the energy", ONNX_FILE, size, difference)
    return {"max_difference": difference, "megabytes": size}


def _contract(generator: Generator, steps: int | None, opset: int) -> dict[str, Any]:
    """Return what ``onnx.json`` and a graph say of ``generator.onnx``."""
    inputs: dict[str, list[Any]] = {name: ["N", 1] for name in generator.condition_names}
    units: dict[str, str] = {name: COLUMNS[name].unit or "PDG code" for name in generator.domains}
    return {
        "inputs": {**inputs, NOISE: ["N", _noise(generator, steps)]},
        "output": {"showers": ["N", generator.geometry.n_voxels]},
        "conditions": as_dict(generator.domains),
        "units": {**units, "showers": "MeV"},
        "threshold": generator.threshold,
        "noise": "independent standard normal numbers, float32",
        "steps": steps or generator.default_steps,
        "opset": opset,
    }


def _write_seeded(generator: Generator, steps: int | None, path: Path, *, opset: int) -> dict[str, Any]:
    """Write the graph with random numbers inside, and return what ``onnx.json`` and the graph say of it."""
    used = write_onnx(generator, steps, path, opset=opset)
    contract = _contract(generator, steps, used)
    del contract[NOISE], contract["inputs"][NOISE]
    contract["inputs"] |= {SEED: [], FIRST: []}
    contract["random"] = {
        "numbers": "Philox4x64-10, key (seed, 0), counter (block, first + row, 0, 0); int64 scalars",
        **{name: {"low": 0, "high": MAX_SEED} for name in (SEED, FIRST)},
    }
    model = with_random_numbers(onnx.load(str(path)))
    _save(model, path, contract)
    return contract


def _save(model: onnx.ModelProto, path: Path, contract: Mapping[str, Any]) -> None:
    """Write a graph that says what its inputs and its output are."""
    onnx.helper.set_model_props(model, {"caloforge": json.dumps(contract)})
    onnx.save_model(model, str(path))


def _tell_settings(card: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Put the settings of another sampler into a model card."""
    told, now = (json.dumps(settings, indent=2) for settings in (old, new))
    card.write_text(card.read_text(encoding="utf-8").replace(told, now), encoding="utf-8")


def _noise(generator: Generator, steps: int | None) -> int:
    return generator.network.noise_for(steps or generator.default_steps)


def write_onnx(generator: Generator, steps: int | None, path: Path, *, opset: int | None = None) -> int:
    """Write a generator's graph with so many steps fixed in it, None for its own, and return its operator set.

    Args:
        generator: what is written.
        steps: of the sampler.
        path: where it goes.
        opset: operator set; None for the oldest that holds the graph.

    Raises:
        InputError: it does not hold it.
    """
    columns = condition_columns(spread_over(generator.domains, 3), generator.condition_names)
    noise = NoiseStream(0, _noise(generator, steps)).rows(3)
    lacking = ""
    for version in OPSETS if opset is None else (opset,):
        try:
            generator.network.write_onnx(
                path, torch.from_numpy(columns), torch.from_numpy(noise), steps=steps, opset=version
            )
        except UnsupportedOperatorError as error:
            lacking = str(error)
        else:
            return version
    which = "no operator set holds" if opset is None else f"operator set {opset} cannot hold"
    raise InputError(f"{which} the graph of {generator.family}: {lacking}")


def _difference(generator: Generator, folder: Path, steps: int | None, *, seeded: bool) -> float:
    conditions = spread_over(generator.domains, 64)
    ours = generator.sample(conditions, seed=1, steps=steps)
    theirs = run_seeded(folder, conditions, seed=1) if seeded else run_onnx(folder, conditions, seed=1)
    differences = relative_difference(theirs, ours, generator.threshold)
    return float(that_must_agree(differences, generator.network.flipped_share).max())


def run_onnx(bundle: Path, conditions: Conditions, *, seed: int, threads: int = 0) -> NDArray[np.float32]:
    """Draw showers with a bundle's ONNX file, with the noise that PyTorch would use.

    Args:
        bundle: folder with ``generator.onnx``.
        conditions: N rows.
        seed: of the noise.
        threads: of onnxruntime; 0 lets it choose.

    Returns:
        (N, V) float32, MeV.

    Raises:
        InputError: the bundle has no ONNX file, or the seed is out of range.
    """
    check_seed(seed)
    session = _session(bundle, ONNX_FILE, threads, hint="run export first")
    *_, noise = session.get_inputs()
    numbers = NoiseStream(seed, noise.shape[1]).rows(len(conditions))
    return _run(session, conditions, {noise.name: numbers})


def run_seeded(
    bundle: Path, conditions: Conditions, *, seed: int, first: int = 0, threads: int = 0
) -> NDArray[np.float32]:
    """Draw showers with a bundle's ``seeded.onnx``: those that PyTorch draws for that seed.

    Args:
        bundle: folder with ``seeded.onnx``.
        conditions: N rows.
        seed: of the random numbers.
        first: number of the first shower; the seed's showers are counted from 0.
        threads: of onnxruntime; 0 lets it choose.

    Returns:
        (N, V) float32, MeV.

    Raises:
        InputError: the bundle has no such file, or seed or numbers are out of range.
    """
    check_seed(seed)
    check_seed(first, name=FIRST)
    check_seed(first + len(conditions) - 1, name="number of the last shower")
    session = _session(bundle, SEEDED_FILE, threads, hint="run export --seeded first")
    return _run(session, conditions, {SEED: np.array(seed, np.int64), FIRST: np.array(first, np.int64)})


def _session(bundle: Path, name: str, threads: int, *, hint: str) -> Any:
    if not (bundle / name).is_file():
        raise InputError(f"{bundle}: has no {name}; {hint}")
    return open_session(Variant(name=name, engine="onnxruntime", threads=threads), bundle / name)


def _run(session: Any, conditions: Conditions, others: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    names = tuple(entry.name for entry in session.get_inputs() if entry.name not in others)
    columns = condition_columns(conditions, names)
    feeds = {name: columns[:, i : i + 1] for i, name in enumerate(names)}
    showers: NDArray[np.float32] = session.run(["showers"], {**feeds, **others})[0]
    return showers
