"""Export a bundle to ONNX: conditions and noise in, voxel energies in MeV out."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
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
from caloforge.outputs import check_folder, result_folder
from caloforge.result_kinds import BUNDLE
from caloforge.showers import Conditions
from caloforge.steps import step

logger = logging.getLogger(__name__)

ONNX_FILE = "generator.onnx"


class ExportFailed(RuntimeError):
    """The ONNX file does not make the showers of its generator."""


def export(
    bundle: Path, output: Path, *, steps: int | None = None, opset: int | None = None, overwrite: bool = False
) -> dict[str, float]:
    """Copy a bundle and add ``generator.onnx``, checked against PyTorch.

    The graph's inputs are the conditions, (N, 1) float32 each (``incident_energy`` in MeV, angles in
    rad, ``particle`` as its PDG code), and ``noise`` (N, noise features) standard normal; its output ``showers`` is (N, V) MeV.
    The transforms are inside the graph.

    Args:
        bundle: the generator's folder.
        output: bundle folder to write.
        steps: sampler steps fixed in the graph; None for the family's default.
        opset: operator set of the graph, one of :data:`caloforge.models.family.OPSETS`; None for the oldest that holds
            it, so that old runtimes load it.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Returns:
        ``max_difference`` (largest difference of a voxel over the shower energy), ``megabytes``.

    Raises:
        InputError: the bundle is damaged, the operator set cannot hold the graph, or the folder may not be written.
        ExportFailed: ONNX and PyTorch do not agree.
    """
    if opset is not None and opset not in OPSETS:
        raise InputError(f"operator set {opset}: choose one of {', '.join(map(str, OPSETS))}")
    bundle = bundle_folder(bundle)
    check_folder(output, BUNDLE, inputs=[bundle], overwrite=overwrite)
    generator = load_bundle(bundle, variant=False)
    with step("export"), result_folder(output, BUNDLE, inputs=[bundle], overwrite=overwrite) as folder:
        config = read_bundle_config(bundle)
        for name in config["files"]:
            if name not in (VARIANT_FILE, VARIANT_GRAPH, *OPTIMISATION):  # what was measured was another graph
                shutil.copyfile(bundle / name, folder / name)
        used = write_onnx(generator, steps, folder / ONNX_FILE, opset=opset)
        inputs: dict[str, list[Any]] = {name: ["N", 1] for name in generator.condition_names}
        units: dict[str, str] = {name: COLUMNS[name].unit or "PDG code" for name in generator.domains}
        contract: dict[str, Any] = {
            "inputs": {**inputs, "noise": ["N", _noise(generator)]},
            "output": {"showers": ["N", generator.geometry.n_voxels]},
            "conditions": as_dict(generator.domains),
            "units": {**units, "showers": "MeV"},
            "threshold": generator.threshold,
            "noise": "independent standard normal numbers, float32",
            "steps": steps or generator.default_steps,
            "opset": used,
        }
        write_json(folder / "onnx.json", contract)
        content = {key: value for key, value in config.items() if key != "files"}
        seal_bundle(folder, content)
        difference = _difference(generator, folder, steps)
        if difference > TOLERANCE or not np.isfinite(difference):
            msg = (
                f"ONNX and PyTorch differ by {difference:.2g} of the shower energy, more than {TOLERANCE:g}; "
                "the exported file was not kept"
            )
            raise ExportFailed(msg)
        size = (folder / ONNX_FILE).stat().st_size / 1e6
    logger.info("exported %s: %.1f MB, largest difference to PyTorch %.2g of the energy", ONNX_FILE, size, difference)
    return {"max_difference": difference, "megabytes": size}


def _noise(generator: Generator) -> int:
    return generator.network.noise_features


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
    noise = NoiseStream(0, _noise(generator)).rows(3)
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


def _difference(generator: Generator, folder: Path, steps: int | None) -> float:
    conditions = spread_over(generator.domains, 64)
    ours = generator.sample(conditions, seed=1, steps=steps)
    theirs = run_onnx(folder, conditions, seed=1)
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
        InputError: the bundle has no ONNX file.
    """
    path = bundle / ONNX_FILE
    if not path.is_file():
        raise InputError(f"{bundle}: has no {ONNX_FILE}; run export first")
    session = open_session(Variant(name=ONNX_FILE, engine="onnxruntime", threads=threads), path)
    *names, noise_name = [entry.name for entry in session.get_inputs()]
    columns = condition_columns(conditions, tuple(names))
    feeds = {name: columns[:, i : i + 1] for i, name in enumerate(names)}
    feeds[noise_name] = NoiseStream(seed, session.get_inputs()[-1].shape[1]).rows(len(conditions))
    showers: NDArray[np.float32] = session.run(["showers"], feeds)[0]
    return showers
