"""The contract of a generator family: a whole generator, from conditions and noise to voxels in MeV."""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from caloforge.conditions import ConditionName
from caloforge.domain import Domains
from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.geometry import Geometry
from caloforge.models.configuration import FamilyConfig, TrainingConfig
from caloforge.preprocessing.transforms import Transforms

if TYPE_CHECKING:
    from caloforge.models.training.data import TrainingData

CPU_BATCH_VOXELS = 500_000
"""Voxels in a network pass on a CPU where the caller sets no batch size; more do not fit its cache."""

OPSETS = {17: 8, 18: 8, 19: 9, 20: 9}
"""Operator sets that graphs may be written in, and the version of the file's format that goes with each.

ONNX Runtime reads 17 from 1.12 on and 20 from 1.17 on; the exporter writes no newer.
"""


def needs_gpu(hours: int, published: str) -> str:
    """Return a :attr:`Family.note`.

    Args:
        hours: of a GPU for the preset ``full`` at 6,480 voxels: the operations of its voxels' training (PyTorch's counter, one
            step on the mesh of dataset 2, times steps and batch) at 5e13 a second, rounded up. It does not count second derivatives:
            GAN and WGAN are taken to need up to three times what the SAGAN does.
        published: what a generator of this kind has reached, and where that stands.
    """
    return (
        f"needs more than minutes of a CPU: about {hours} GPU-hour{'s' * (hours > 1)} (preset full at 6,480 voxels, from the number "
        f"of its operations; not run here); published: {published}"
    )


class TrainableModel(nn.Module, ABC):
    """Something the training loop can fit.

    Attributes:
        parts: optimiser steps that make up one training step, in order; each part has its own
            optimiser. Most models have one, adversarial ones take turns.
        betas: momenta of Adam.
        exact: whether it wants float32 where a GPU has bfloat16: a likelihood of many parts does.
    """

    parts: tuple[str, ...] = ("model",)
    betas: tuple[float, float] = (0.9, 0.99)
    exact: bool = False

    @abstractmethod
    def forward(self, part: str, batch: Any, draws: Draws) -> Tensor:
        """Return the loss of one part, a mean over the batch's rows; all random numbers come from ``draws``."""

    def parameters_of(self, part: str) -> list[nn.Parameter]:
        """Return the parameters that the optimiser of a part moves."""
        return list(self.parameters())


@dataclass(frozen=True)
class DataSpec:
    """What a generator must know of the data that it is for.

    Attributes:
        geometry: the mesh: V voxels in L layers.
        domains: what the conditions are, the incident energy first.
        threshold: MeV; no voxel is between 0 and this.
        transforms: the fitted codings of layers and voxels; None for a family without
            ``uses_transforms``.
    """

    geometry: Geometry
    domains: Domains
    threshold: float
    transforms: Transforms | None = None

    @property
    def conditions(self) -> tuple[ConditionName, ...]:
        """Names of the conditions, the incident energy first."""
        return tuple(self.domains)


@dataclass(frozen=True)
class Stage:
    """One of the networks of a family, trained by itself; the others rest.

    Attributes:
        training: steps, batch size, rates and the like.
        batch: makes batch ``number`` of ``size`` rows, or a share of them, from the training data: called as
            ``batch(data, number, size, draws)``. What it returns goes to the network's ``forward`` as it
            is: a :class:`caloforge.models.batch.Batch`, tensors, or an object of the family's own (no
            dataclass, see Batch). All random numbers come from ``draws``, and rows from
            :meth:`TrainingData.batch`, so that a training that goes on, or on several processes, is the same.
        share: of a time limit, relative to the other stages; time that one leaves goes to those after it.
        title: for the log, the record and the model card; its name without it.
    """

    training: TrainingConfig
    batch: Callable[[TrainingData, int, int, Draws], Any]
    share: float = 1.0
    title: str = ""


class Family(nn.Module, ABC):
    """A generator: a distribution of showers given conditions, as a fixed function of noise.

    The same noise gives the same shower in PyTorch, in ONNX and on a server. Everything that sampling
    needs is a parameter or a persistent buffer, or follows from configuration and data specification: a
    bundle holds these three.

    Attributes:
        Config: class of the family's configuration; its defaults serve where a preset has no entry.
        uses_layer_energies: whether it draws voxels for layer energies that the shared model
            (:class:`caloforge.models.layer_energies.LayerEnergies`) draws first. Then it has that model as its
            submodule ``energies`` and a stage of that name, which is left out where a trained one is given.
        uses_transforms: whether it works on voxels and layer energies as preprocessing coded them.
        space: what a tuning changes: dotted path in the configuration to a range, as in a YAML of a
            search space.
        noise_features: standard normal numbers needed per shower; see :meth:`noise_for`.
        default_steps: steps of the sampler, None where sampling takes one pass.
        has_likelihood: whether :meth:`log_prob` says how likely a shower is. A density of coded voxels is none: the
            coding fills zeros with noise.
        note: what the leaderboard says beside an AUC near 1: how much it needs, and what was published; empty for none.
        flipped_share: share of showers in which another library's rounding may turn a discrete choice; an
            exported file must agree in all others.
        exact_rows: whether one thread of a CPU draws a shower to the bit the same whatever is drawn beside it; other
            families round it differently in batches of other sizes.
    """

    note: ClassVar[str] = ""
    flipped_share: ClassVar[float] = 0.0
    exact_rows: ClassVar[bool] = False
    has_likelihood: ClassVar[bool] = False
    Config: ClassVar[type[FamilyConfig]]
    uses_layer_energies: ClassVar[bool] = False
    uses_transforms: ClassVar[bool] = False
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    noise_features: int
    default_steps: int | None = None

    def __init__(self, config: Any, data: DataSpec) -> None:
        """Build the networks with weights from torch's global random numbers, which the caller seeds.

        Args:
            config: an instance of the family's ``Config``.
            data: what it is for.
        """
        super().__init__()
        self.config, self.data = config, data

    @classmethod
    def check(cls, config: Any) -> None:
        """Refuse a combination of settings that does not fit, before anything is built.

        Raises:
            InputError: it does not.
        """

    def begin(self, data: TrainingData) -> None:
        """Set buffers that are fitted, not learnt, from the training showers; before the first stage.

        Every process calls it, and so does every attempt: the result must be the same each time.
        """

    @abstractmethod
    def stages(self) -> dict[str, Stage]:
        """Return what is trained, in order: name of the submodule, a :class:`TrainableModel`, to how.

        A submodule is replaced by its trained weights, averaged over the steps, before the next stage begins.
        """

    @abstractmethod
    def forward(self, conditions: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """Draw showers.

        Args:
            conditions: (B, K) float32, raw: incident energy in MeV first, angles in rad, PDG codes.
            noise: (B, noise_for(steps)) float32, standard normal.
            steps: steps of the sampler; None for ``default_steps``.

        Returns:
            (B, V) float32, MeV; no voxel is between 0 and the threshold.
        """

    def log_prob(self, conditions: Tensor, voxels: Tensor) -> dict[str, Tensor]:
        """Return the log-likelihood of showers, part by part, for a family with ``has_likelihood``.

        Args:
            conditions: (B, K) float32, as for :meth:`forward`.
            voxels: (B, V) MeV, none between 0 and the threshold.

        Returns:
            (B,) for each part, in nats; they add up to that of the shower.

        Raises:
            InputError: the family has none.
        """
        raise InputError(f"family {self.config.family!r} has no likelihood of showers; the family tree has")

    def noise_for(self, steps: int | None) -> int:
        """Return how many standard normal numbers a shower needs with so many steps of the sampler.

        More than ``noise_features`` where the sampler adds fresh noise in each step; the first of them are the same
        for any number of steps.
        """
        return self.noise_features

    def sampling_batch(self, device: torch.device) -> int:
        """Return how many showers are drawn at once where the caller does not say."""
        return max(1, min(1000, CPU_BATCH_VOXELS // self.data.geometry.n_voxels)) if device.type == "cpu" else 1000

    def write_onnx(self, path: Path, conditions: Tensor, noise: Tensor, *, steps: int | None, opset: int) -> None:
        """Write the whole generator as an ONNX graph.

        Its inputs are the conditions by name, (N, 1) float32 each, then ``noise`` (N, noise_for(steps)); its
        output is ``showers`` (N, V) MeV. N is dynamic.

        Args:
            path: file to write.
            conditions: (B, K) example.
            noise: (B, noise_for(steps)) example.
            steps: steps of the sampler fixed in the graph.
            opset: operator set, one of :data:`OPSETS`.

        Raises:
            torch.onnx.errors.UnsupportedOperatorError: it lacks an operator.
        """
        entry = _OneInputPerCondition(_with_plain_weights(self), steps).eval()
        write_graph(entry, path, conditions, noise, names=self.data.conditions, opset=opset)


def write_graph(
    entry: nn.Module, path: Path, conditions: Tensor, noise: Tensor, *, names: tuple[str, ...], opset: int
) -> None:
    """Write a module as the ONNX graph that every family promises (:meth:`Family.write_onnx`).

    Args:
        entry: from one (B, 1) tensor for each condition, and noise, to (B, V) MeV; may be scripted.
        path: file to write.
        conditions: (B, K) example.
        noise: (B, noise_features) example.
        names: of the conditions, K of them.
        opset: operator set.
    """
    inputs = dict(zip((*names, "noise"), (*torch.split(conditions, 1, 1), noise), strict=True))
    record_graph(entry, inputs, ["showers"], path, dict.fromkeys((*inputs, "showers"), 0), opset=opset)


def record_graph(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    file: Path | BytesIO,
    batched: Mapping[str, int],
    *,
    opset: int,
) -> None:
    """Record a module as an ONNX graph.

    Args:
        module: called with the inputs in their order.
        inputs: examples.
        outputs: names for what it returns.
        file: to write.
        batched: which dimension of an input or output is N; those that are not named here have fixed shapes.
        opset: operator set.
    """
    target: Any = str(file) if isinstance(file, Path) else file
    with warnings.catch_warnings():
        # The TorchScript exporter is called deprecated and warns of every constant it folds. The newer one
        # needs minutes, not seconds, for graphs with so many small operations.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            target,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes={name: {axis: "N"} for name, axis in batched.items()},
            opset_version=opset,
            dynamo=False,
        )


def _with_plain_weights(family: Family) -> Family:
    """Return a family whose weights are numbers, not worked out from others: a copy where they are (spectral norm)."""
    if not any(map(is_parametrized, family.modules())):
        return family
    plain = copy.deepcopy(family).eval()  # a forward pass in training mode moves what they are worked out from
    for module in list(plain.modules()):
        if is_parametrized(module):
            weights = {name: getattr(module, name).detach() for name in cast("nn.ModuleDict", module.parametrizations)}
            # Not remove_parametrizations: it takes the properties off a class that is the original's too.
            module.__class__ = type_before_parametrizations(module)
            del module.parametrizations
            for name, value in weights.items():
                module.register_parameter(name, nn.Parameter(value, requires_grad=False))
    return plain


class _OneInputPerCondition(nn.Module):
    """A generator as C++ callers use it."""

    def __init__(self, family: Family, steps: int | None) -> None:
        super().__init__()
        self.family, self.steps = family, steps

    def forward(self, *inputs: Tensor) -> Tensor:
        *conditions, noise = inputs
        showers: Tensor = self.family(torch.cat(conditions, 1), noise, self.steps)
        return showers
