"""The generator bundle: a folder with all that sampling needs, loaded without running its code."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import save_file

from caloforge.arrays import fill, read_weights
from caloforge.conditions import ConditionName
from caloforge.config import Config, OneLine
from caloforge.domain import DomainTable, Extrapolation, as_dict, check_inside, spread_over
from caloforge.errors import InputError
from caloforge.files import read_json, sha256, write_json
from caloforge.geometry import GEOMETRY_FILES, Geometry, stored_geometry, write_geometry
from caloforge.markdown import code, plain
from caloforge.models.agreement import TOLERANCE, relative_difference
from caloforge.models.configuration import FamilyConfig
from caloforge.models.engines.variant import PLAIN, VARIANT_FILE, Draw, EngineUnavailable, Variant
from caloforge.models.family import DataSpec, Family
from caloforge.models.noise import Noise, NoiseStream
from caloforge.models.registries import ENGINES, FAMILIES
from caloforge.names import inside
from caloforge.outputs import result_folder
from caloforge.preprocessing.prepared import Prepared, load_transforms
from caloforge.result_kinds import BUNDLE
from caloforge.seeds import check_seed
from caloforge.showers import Conditions

logger = logging.getLogger(__name__)

FORMAT = 4
FILES = ("weights.safetensors", "training.json", "README.md")
TRANSFORM = "transform.safetensors"
"""File of the fitted codings, in bundles of families that use them."""
LIKELIHOOD = "likelihood.json"
"""File of how likely held-out showers are, in bundles of families with a likelihood."""
MOST_NOISE = 100_000_000
"""Numbers of noise in a network pass where the caller sets no batch size: samplers that add noise in each step need many."""

_TRIED = 8
"""Showers by which a generator is tried out."""
_MOST_RESPONSE = 100.0
"""A shower of more than so many times its incident energy is no shower, however a detector is calibrated."""

KNOWN_FILES = tuple(name for name in BUNDLE.files if name != "config.json")
"""All that a bundle may hold beside ``config.json``; others are not read and not copied."""


class GeneratorFailed(RuntimeError):
    """A generator makes no showers, or holds weights that are not finite."""


class Generator:
    """A trained generator, ready to sample.

    Attributes:
        config: content of the bundle's ``config.json``.
        family: name of the family.
        geometry: the mesh.
        threshold: MeV; no voxel is between 0 and this.
        domains: conditions it needs, the incident energy first, and what they were in the training.
        extrapolation: whether conditions outside are refused or only warned about.
        default_steps: sampler steps when none are asked for; None for one-pass families.
        network: the network itself.
        variant: how it is run, where no other number of steps is asked for.
    """

    def __init__(self, network: Family, config: Mapping[str, Any], geometry: Geometry) -> None:
        """Wrap a network in evaluation mode; PyTorch runs it."""
        self.network = network.eval().requires_grad_(False)
        self.config = config
        self.geometry = geometry
        self.family: str = config["family"]
        self.threshold: float = config["threshold"]
        self.domains = DomainTable.model_validate(config["conditions"]).domains
        self.extrapolation: Extrapolation = config["extrapolation"]
        self.default_steps = network.default_steps
        self.variant, self._draw = PLAIN, self._engine(PLAIN, Path())

    def run_as(self, variant: Variant, folder: Path) -> None:
        """Draw with a variant from now on.

        Args:
            variant: the variant.
            folder: where its graph lies.

        Raises:
            EngineUnavailable: this machine cannot run it.
            InputError: it takes steps, and the generator none.
        """
        if variant.steps is not None and self.network.default_steps is None:
            raise InputError(f"{variant.name}: takes {variant.steps} steps, but {self.family} takes none")
        self._draw, self.variant = self._engine(variant, folder), variant
        self.default_steps = variant.steps or self.network.default_steps

    def _engine(self, variant: Variant, folder: Path) -> Draw:
        return ENGINES.get(variant.engine)(variant, self.network, self.condition_names, folder)

    def variant_of(self, steps: int | None) -> Variant:
        """Return how showers of so many steps are drawn; a chosen variant knows one number only."""
        return self.variant if steps in (None, self.default_steps) else PLAIN.model_copy(update={"steps": steps})

    def _drawing(self, steps: int | None, *, exact: bool = False) -> Draw:
        """Return what draws with so many steps; ``exact``: by one thread, where that makes showers independent."""
        variant = self.variant_of(steps)
        if exact and self.exact_rows:
            return self._engine(variant.model_copy(update={"threads": 1}), Path())
        return self._draw if variant is self.variant else self._engine(variant, Path())

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @property
    def exact_rows(self) -> bool:
        """Whether one thread draws a shower to the bit the same, whatever is drawn beside it."""
        usual = self.variant.engine == "pytorch" and self.variant.precision == "fp32" and not self.variant.compiled
        return self.network.exact_rows and self.device.type == "cpu" and usual

    @property
    def condition_names(self) -> tuple[ConditionName, ...]:
        """Names of the conditions that it needs, the incident energy first."""
        return tuple(self.domains)

    @property
    def energy_range(self) -> tuple[float, float]:
        """Least and greatest incident energy of the training, MeV."""
        return self.domains["incident_energy"].limits

    def check(self, conditions: Conditions) -> None:
        """Refuse conditions that this generator cannot serve.

        Raises:
            InputError: a condition is missing or not finite, or is outside what it was trained on
                and the bundle does not allow extrapolation (if it does, a warning is logged).
        """
        check_inside(conditions, self.domains, extrapolation=self.extrapolation)

    def try_out(self) -> None:
        """Draw a few showers over all that it was trained on, before others wait for them.

        Raises:
            GeneratorFailed: it draws none, only empty ones or impossible ones, or, in the precision of PyTorch, others
                than PyTorch.
        """
        conditions = spread_over(self.domains, _TRIED)
        columns = condition_columns(conditions, self.condition_names)
        noise = NoiseStream(0, self.network.noise_for(self.default_steps)).take(_TRIED)
        showers = self._draw_showers(self._drawing(None), columns, noise, 0)
        response = showers.sum(axis=1, dtype=np.float64) / conditions.incident_energy
        if not response.any() or response.max() > _MOST_RESPONSE:
            raise GeneratorFailed(
                f"{self.family}: of {_TRIED} showers the energies are {response.min():.3g} to {response.max():.3g} times the "
                "incident energies; its weights and settings do not belong together: copy it again, or train it again"
            )
        if self.variant.engine == "pytorch" or self.variant.precision != "fp32":
            return
        steps = PLAIN.model_copy(update={"steps": self.default_steps})
        expected = self._draw_showers(self._engine(steps, Path()), columns, noise, 0)
        differing = int((relative_difference(showers, expected, self.threshold) > TOLERANCE).sum())
        if differing > _TRIED // 2:
            raise GeneratorFailed(
                f"{self.family}: {self.variant.name}: {differing} of {_TRIED} showers differ from PyTorch's; the variant is of "
                "another generator: optimise it again"
            )

    def sample(
        self, conditions: Conditions, *, seed: int, steps: int | None = None, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Draw one shower for each row of conditions.

        The noise of row i depends on the seed and i alone: not on the number of rows, the batch
        size or the device.

        Returns:
            (N, V) float32, MeV.

        Raises:
            InputError: see :meth:`check`; or steps is not positive, or the seed negative or of more than 63 bits.
        """
        result = np.empty((len(conditions), self.geometry.n_voxels), np.float32)
        for start, showers, _ in self.stream(conditions, seed=seed, steps=steps, batch_size=batch_size):
            result[start : start + len(showers)] = showers
        return result

    def stream(
        self, conditions: Conditions, *, seed: int, steps: int | None, batch_size: int | None
    ) -> Iterator[tuple[int, NDArray[np.float32], float]]:
        """Yield (first row, showers, seconds) batch by batch; otherwise as :meth:`sample`."""
        self.check(conditions)
        check_seed(seed)
        if steps is not None and steps < 1:
            raise InputError(f"steps must be at least 1, got {steps}")
        n_noise = self.network.noise_for(steps or self.default_steps)
        if batch_size is None:
            batch_size = min(self.network.sampling_batch(self.device), max(1, MOST_NOISE // n_noise))
        columns = condition_columns(conditions, self.condition_names)
        noise = NoiseStream(seed, n_noise)
        draw = self._drawing(steps)
        for start in range(0, len(conditions), batch_size):
            began = time.perf_counter()
            batch = columns[start : start + batch_size]
            showers = self._draw_showers(draw, batch, noise.take(len(batch)), start)
            yield start, showers, time.perf_counter() - began

    def sample_together(
        self, queries: Sequence[tuple[Conditions, int]], *, steps: int | None
    ) -> list[NDArray[np.float32]]:
        """Draw the showers of several conditions and seeds in one batch.

        Each has the showers that it would have alone: to the bit where :attr:`exact_rows`, for one thread draws
        them then (many small operations gain nothing by more), otherwise but for rounding.

        Returns:
            (N, V) float32, MeV, for each.

        Raises:
            InputError: as :meth:`sample`.
        """
        for conditions, seed in queries:
            self.check(conditions)
            check_seed(seed)
        columns = [condition_columns(conditions, self.condition_names) for conditions, _ in queries]
        n_noise = self.network.noise_for(steps or self.default_steps)
        noise = [NoiseStream(seed, n_noise).take(len(conditions)) for conditions, seed in queries]
        draw = self._drawing(steps, exact=True)
        showers = self._draw_showers(draw, np.concatenate(columns), Noise.joined(noise), 0)
        return np.split(showers, np.cumsum([len(rows) for rows in columns])[:-1])

    def _draw_showers(self, draw: Draw, columns: NDArray[np.float32], noise: Noise, start: int) -> NDArray[np.float32]:
        """Draw the showers of a batch whose first row is ``start``."""
        try:
            showers = draw(columns, noise)
        except InputError:
            raise
        except (IndexError, TypeError, ValueError) as error:  # of numbers that no training leaves behind
            raise GeneratorFailed(
                f"{self.family}: {self.variant.name} cannot draw showers ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); its weights and settings do not belong together: copy it again, or train it again"
            ) from error
        self._check_showers(showers, start, len(columns))
        return showers

    def _check_showers(self, showers: NDArray[np.float32], start: int, n: int) -> None:
        if showers.shape != (n, self.geometry.n_voxels) or showers.dtype != np.float32:
            raise GeneratorFailed(
                f"{self.family}: {self.variant.name} makes {showers.dtype} of shape {showers.shape} where float32 of "
                f"{(n, self.geometry.n_voxels)} is wanted; its graph is of another generator"
            )
        fine: NDArray[np.bool_] = np.asarray(np.isfinite(showers).all(axis=1))
        if not fine.all():
            raise GeneratorFailed(
                f"{self.family}: shower {start + int(np.argmin(fine))} is not finite ({(~fine).sum()} of "
                f"{len(fine)} in its batch); the weights are of a training that went wrong: train it again"
            )


def condition_columns(conditions: Conditions, names: Sequence[str]) -> NDArray[np.float32]:
    """Return the named conditions as columns, (N, K) float32."""
    return np.stack([getattr(conditions, name) for name in names], 1).astype(np.float32)


def save_bundle(
    output: Path,
    network: Family,
    config: FamilyConfig,
    prepared: Prepared,
    *,
    record: Mapping[str, Any],
    extrapolation: Extrapolation,
    likelihood: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a bundle folder, atomically.

    Args:
        output: the folder.
        network: with the weights to keep.
        config: how it was built and trained.
        prepared: the data it was trained on.
        record: training record: losses, times, provenance, layer energies.
        extrapolation: what sampling does with conditions outside the trained range.
        likelihood: how likely held-out showers are, if the family can say it.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the folder may not be written.
        GeneratorFailed: a weight is not finite.
    """
    weights = {name: value.contiguous().cpu() for name, value in _own_state(network).items()}
    _check_finite(weights, "the training went wrong", "lower the learning rate")
    with result_folder(output, BUNDLE, inputs=[prepared.path], overwrite=overwrite) as folder:
        save_file(weights, folder / "weights.safetensors")
        if network.uses_transforms:
            (folder / TRANSFORM).write_bytes((prepared.path / TRANSFORM).read_bytes())
        write_geometry(prepared.geometry, folder)
        write_json(folder / "training.json", record)
        if likelihood is not None:
            write_json(folder / LIKELIHOOD, likelihood)
        content = bundle_config(config, prepared, network, energies=record["energies"], extrapolation=extrapolation)
        (folder / "README.md").write_text(_model_card(content, prepared, record), encoding="utf-8")
        seal_bundle(folder, content)


def _own_state(network: Family) -> dict[str, torch.Tensor]:
    """Return the state of a generator without that of the fitted codings, which have a file of their own."""
    codings = network.data.transforms or ()
    skipped = tuple(f"{name}." for name, module in network.named_children() if module in codings)
    return {name: value for name, value in network.state_dict().items() if not name.startswith(skipped)}


def _check_finite(weights: Mapping[str, torch.Tensor], what: str, advice: str) -> None:
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise GeneratorFailed(f"{what}: {name} has a number that is not finite; {advice}")


def bundle_config(
    config: FamilyConfig,
    prepared: Prepared,
    family: Family,
    *,
    energies: Mapping[str, Any],
    extrapolation: Extrapolation,
) -> dict[str, Any]:
    """Return what ``config.json`` says of a generator, but for the checksums.

    ``energies`` says which layer energies it stands on: ``sha256`` of their weights, and whether they were
    ``given``, not trained within; empty for a family without.
    """
    coding = {"voxel_scaling": prepared.record["settings"]["voxel_scaling"]} if family.uses_transforms else {}
    return {
        "format": FORMAT,
        "family": config.family,
        "preset": config.preset,
        "settings": config.model_dump(mode="json", exclude={"family", "preset"}),
        "energies": dict(energies),
        "geometry": prepared.geometry.name,
        "conditions": as_dict(prepared.domains),
        "extrapolation": extrapolation,
        "threshold": prepared.threshold,
        **coding,
    }


def seal_bundle(folder: Path, content: Mapping[str, Any]) -> None:
    """Write ``config.json`` with the checksums of all other files of the folder."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "config.json")
    write_json(folder / "config.json", {**content, "files": {name: sha256(folder / name) for name in names}})


def bundle_folder(path: Path) -> Path:
    """Return where a bundle really is: KServe links the files of a bundle on a claim into a folder of its own.

    Raises:
        InputError: there is none.
    """
    if not (path / "config.json").is_file():
        raise InputError(f"{path}: not a generator bundle (config.json is missing)")
    return (path / "config.json").resolve().parent


def read_bundle_config(path: Path) -> dict[str, Any]:
    """Read a bundle's ``config.json`` and check that every file is there and unaltered.

    Raises:
        InputError: not a bundle, of an unknown format, or a file is missing or altered.
    """
    path = bundle_folder(path)
    where = path / "config.json"
    config = read_json(where)
    config = _as_now(config) if isinstance(config, dict) else None
    if config is None:
        raise InputError(f"{where}: not a bundle of format {FORMAT}; make it again with this version")
    files = _Content.parse(config, where=str(where)).files
    for name in files:
        if name not in KNOWN_FILES:
            raise InputError(f"{where}: files: {name!r} is no file of a bundle ({', '.join(KNOWN_FILES)})")
    geometry = next((name for name in GEOMETRY_FILES if name in files), GEOMETRY_FILES[0])
    for name in (*FILES, geometry, *files):
        file = inside(path, name, where=str(where))
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise InputError(f"{file}: is a link or no file; copy the whole folder again, with its files")
        if name not in files or not file.exists():
            raise InputError(f"{path}: the bundle's file {name} is missing; copy the whole folder again")
    for name, digest in files.items():
        if sha256(path / name) != digest:
            raise InputError(f"{path / name}: differs from what the bundle was saved with (SHA-256); copy it again")
    return config


class _StandsOn(Config, extra="allow"):
    """The layer energies of a generator."""

    sha256: str


class _Content(Config, extra="allow"):
    """What is read of ``config.json``, whatever else it says."""

    family: str
    preset: OneLine
    settings: dict[str, Any]
    geometry: OneLine
    conditions: DomainTable
    extrapolation: Extrapolation
    threshold: float = Field(gt=0, lt=1e15, strict=True)
    energies: _StandsOn | dict[None, None]
    voxel_scaling: str = ""
    files: dict[str, str]


def _as_now(config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the content of ``config.json`` as this version writes it; None where an older one made other generators.

    Formats 2 and 3 said the range of the energies and the names of all conditions. Before format 3 codings of voxels were
    others.
    """
    form, limits = config.get("format"), config.get("energy_range")
    if form == FORMAT:
        return config
    same = form == 3 or (form == 2 and "voxel_scaling" not in config)
    if not same or config.get("conditions") != ["incident_energy"] or not isinstance(limits, list):
        return None
    return {
        **config,
        "format": FORMAT,
        "conditions": {"incident_energy": dict(zip(("low", "high"), limits, strict=False))},
    }


def load_bundle(
    path: Path, *, device: str = "cpu", variant: bool = True, sampler: Mapping[str, Any] | None = None
) -> Generator:
    """Load a generator from its folder; only data is read, no code is run.

    Args:
        path: the folder.
        device: where PyTorch is to sample.
        sampler: its name and settings, in place of the generator's own; no variant then.
        variant: run it as the variant that the bundle was given (``caloforge optimise``); where this machine
            cannot, or the device is not the one it is for, PyTorch runs it in float32, and one line says so.

    Raises:
        InputError: see :func:`read_bundle_config`; or its family is not known here, the sampler does not fit it, or its
            files were changed meanwhile.
        GeneratorFailed: a weight is not finite.
    """
    path = bundle_folder(Path(path))
    before = _versions(path)
    config = read_bundle_config(path)
    geometry = stored_geometry(path, name=config["geometry"])
    family = FAMILIES.get(config["family"])
    if sampler is not None:
        if "sampler" not in family.Config.model_fields:
            raise InputError(f"{path}: family {config['family']!r} draws its showers itself and takes no sampler")
        config = {**config, "settings": {**config["settings"], "sampler": dict(sampler)}}
    settings = family.Config.parse(
        {**config["settings"], "family": config["family"], "preset": config["preset"]},
        where=str(path / "config.json") if sampler is None else f"{config['family']} of {path}",
    )
    if sampler is not None:
        family.check(settings)
        config["settings"] = settings.model_dump(mode="json", exclude={"family", "preset"})
    domains = DomainTable.model_validate(config["conditions"]).domains
    codings = load_transforms(path, geometry, config.get("voxel_scaling", "")) if family.uses_transforms else None
    network = family(settings, DataSpec(geometry, domains, config["threshold"], codings))
    state = read_weights(path / "weights.safetensors")
    if set(_own_state(network)) != set(state):
        raise InputError(f"{path}: weights do not fit the configuration; the bundle was put together from two")
    _check_finite(state, str(path), "train it again")
    fill(network, state, where=path / "weights.safetensors", strict=False)
    generator = Generator(network.to(device), config, geometry)
    if variant and sampler is None and VARIANT_FILE in config["files"]:
        _run_as_chosen(generator, path)
    if _versions(path) != before:
        raise InputError(f"{path}: was changed while it was read; read it again when it is whole")
    return generator


def _versions(path: Path) -> list[tuple[int, ...]]:
    """Return what changes when a file of a bundle does, or another one takes its place."""
    there = [path / name for name in ("config.json", *KNOWN_FILES) if (path / name).exists()]
    found = [file.stat() for file in there]
    return [(one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found]


def _run_as_chosen(generator: Generator, path: Path) -> None:
    chosen = Variant.parse(read_json(path / VARIANT_FILE), where=str(path / VARIANT_FILE))
    try:
        if generator.device.type != chosen.device:
            raise EngineUnavailable(f"{chosen.name}: is for {chosen.device}, not for {generator.device.type}")
        if chosen.graph not in ("", *generator.config["files"]):
            raise InputError(f"{path / VARIANT_FILE}: graph: {chosen.graph!r} is no file of the bundle")
        generator.run_as(chosen, path)
    except EngineUnavailable as error:
        logger.warning("%s; PyTorch draws the showers instead, in float32", error)


def _distilled(record: Mapping[str, Any]) -> str:
    """Return a row on the teacher; empty for a generator that had none."""
    if (found := record.get("distillation")) is None:
        return ""
    teacher = found["teacher"]
    return f"| teacher | {found['method']} distillation, SHA-256 of its weights {teacher['sha256'][:16]}... |\n"


def _model_card(content: Mapping[str, Any], prepared: Prepared, record: Mapping[str, Any]) -> str:
    geometry = prepared.geometry
    conditions = "\n".join(
        f"| {name.replace('_', ' ')} | {domain.told(name)}; outside: {content['extrapolation']} |"
        for name, domain in prepared.domains.items()
    )
    source = record["provenance"]["inputs"]["showers"]
    seconds = sum(stage["seconds"] for stage in record["stages"].values())
    stands_on = content["energies"]
    energies = (
        f"| layer energies | {'given' if stands_on['given'] else 'trained within'}, SHA-256 {stands_on['sha256'][:16]}... |\n"
        if stands_on
        else ""
    )
    rows = "\n".join(
        f"| {name} | {stage['steps']} steps, {stage['seconds']:.0f} s |" for name, stage in record["stages"].items()
    )
    return f"""# Shower generator: {content["family"]} on {plain(geometry.name)}

Draws the energies in MeV of {geometry.n_voxels} voxels in {geometry.n_layers} layers for given
{", ".join(content["conditions"])}.

| what | value |
|---|---|
| family, preset | {content["family"]}, {content["preset"]} |
{conditions}
| voxel threshold | {content["threshold"]:.6g} MeV |
| trained on | {len(prepared.splits["train"])} showers of {code(source["file"])} (SHA-256 {source["sha256"][:16]}...) |
{rows}
| training time | {seconds:.0f} s on {record["device"]} |
{energies}{_distilled(record)}| parameters | {record["parameters"]} |
| seed, versions | {record["provenance"]["seed"]}, caloforge {record["provenance"]["caloforge"]} ({record["provenance"]["git_revision"]}) |

Sample with `caloforge generate --bundle . --energy 10000 --n 100 --seed 1 -o showers.hdf5`. How far
it is from Geant4 is in the validation report that was made with it, not here.

Configuration:

```json
{json.dumps(content["settings"], indent=2)}
```
"""
