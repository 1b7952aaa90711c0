"""Generate showers with a bundle into a shower file, streaming."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from caloforge.models.bundle import bundle_folder, load_bundle
from caloforge.outputs import check_file
from caloforge.progress import Progress
from caloforge.provenance import provenance
from caloforge.showers import VARIANT, Conditions, write_showers
from caloforge.steps import step

logger = logging.getLogger(__name__)


def generate(
    bundle: Path,
    conditions: Conditions,
    output: Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    sampler: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """Draw one shower per row of conditions and write them as they come.

    Args:
        bundle: the generator's folder.
        conditions: N rows; what the generator is not conditioned on is left out of the file.
        output: HDF5 file to write, CaloChallenge layout.
        seed: the same seed gives the same showers.
        steps: sampler steps, for families that take several.
        sampler: name and settings of another sampler than the generator's own.
        batch_size: showers per network pass; None for what suits the device.

    Returns:
        ``showers``, ``seconds`` spent in sampling alone, ``ms_per_shower``.

    Raises:
        InputError: the bundle is damaged, the conditions or the sampler do not fit it, or the file may not be written.
    """
    check_file(output, inputs=[bundle])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = load_bundle(bundle, device=device, sampler=sampler)
    generator.check(conditions)
    if unused := [name for name in conditions.names if name not in generator.condition_names]:
        logger.warning("%s: is not conditioned on %s, which is left out", bundle, ", ".join(unused))
        conditions = Conditions.of({name: getattr(conditions, name) for name in generator.condition_names})
    with step(f"generate {generator.family}"):
        attributes: dict[str, Any] = {
            "energy_threshold": generator.threshold,
            "source": f"caloforge {generator.family}",
            "generator": generator.family,
            VARIANT: generator.variant_of(steps).name + (" on a GPU" if device == "cuda" else ""),
        }
        if energies := generator.config["energies"]:
            attributes["layer_energies"] = energies["sha256"]  # by this validation knows what generators share
        if generator.network.note:
            attributes["family_note"] = generator.network.note
        if generator.config.get("distilled"):
            attributes["distilled"] = generator.config["distilled"]
        if generator.default_steps is not None:
            attributes["sampler"] = generator.config["settings"]["sampler"]["name"]
            attributes["sampler_steps"] = steps or generator.default_steps
        record = provenance(inputs={"weights": bundle_folder(bundle) / "weights.safetensors"}, seed=seed)
        progress = Progress(f"{generator.family} generating", len(conditions), unit="shower")
        seconds = 0.0
        with write_showers(output, generator.geometry, attributes=attributes, provenance=record) as writer:
            for start, showers, spent in generator.stream(conditions, seed=seed, steps=steps, batch_size=batch_size):
                seconds += spent
                writer.append(conditions.take(slice(start, start + len(showers))), showers)
                progress.update(start + len(showers))
    return {
        "showers": float(len(conditions)),
        "seconds": seconds,
        "ms_per_shower": 1e3 * seconds / len(conditions),
    }
