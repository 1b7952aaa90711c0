"""The training loop: time limit, learning-rate schedule, averaged weights, checkpoints, resume."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.files import atomic_file
from caloforge.models.configuration import TrainingConfig
from caloforge.models.family import TrainableModel
from caloforge.progress import Progress

logger = logging.getLogger(__name__)

Batches = Callable[[int, Draws], Any]
"""Batch number and random numbers to what the model takes, of the rows that the random numbers are for."""

_Tensors = tuple[Tensor, ...] | list[Tensor]

MAX_BAD_STEPS = 50
"""So many steps in a row without a finite gradient end a training."""


class TrainingDiverged(RuntimeError):
    """Losses or gradients stay NaN or infinite: the same training would end the same way."""


class TrainingInterrupted(SystemExit):
    """The process was asked to end (SIGTERM); a checkpoint has been saved."""


@dataclass
class Fit:
    """Result of a training.

    Attributes:
        model: the network with averaged weights.
        steps: steps done.
        seconds: time spent, over all attempts.
        losses: (step, loss) now and then, per part.
    """

    model: nn.Module
    steps: int
    seconds: float
    losses: dict[str, list[tuple[int, float]]]


def fit(
    model: TrainableModel,
    batches: Batches,
    config: TrainingConfig,
    *,
    name: str,
    seed: int,
    seconds: float | None,
    checkpoint: Path,
    fabric: Fabric,
    watch: Callable[[nn.Module], None] | None = None,
    looks: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> Fit:
    """Train until the steps are done or the time is up, from the last checkpoint if there is one.

    The random numbers of a step are seeded with its number, so an interrupted training ends with
    the weights of an uninterrupted one. A time limit makes the schedule follow the clock instead.
    Several processes share each batch; what they learn does not depend on their number, beyond the
    rounding of sums. The first one keeps the checkpoints.

    Args:
        model: what to train, the same in all processes.
        batches: gives ``config.batch_size`` rows by the number of the batch, or a share of them.
        config: steps, rates and the like.
        name: for the log.
        seed: of all random numbers.
        seconds: time limit over all attempts, None for none.
        checkpoint: file for checkpoints.
        fabric: device, precision and processes.
        watch: is given the averaged network while the training goes on; what it takes does not count
            as time. The first process calls it, the others wait.
        looks: how often, at equal shares of the training; the end is none of them.
        clock: tells the seconds that the limit is of.

    Raises:
        InputError: a batch has fewer rows than there are processes.
        TrainingDiverged: gradients stay NaN or infinite, or a part had no finite loss at all.
        TrainingInterrupted: on SIGTERM, after a checkpoint was saved.
    """
    if config.batch_size < fabric.world_size:
        raise InputError(f"{name}: {fabric.world_size} processes cannot share a batch of {config.batch_size} showers")
    rows = _share(config.batch_size, fabric) if fabric.world_size > 1 else None
    # Gradients are averaged over processes, but shares may differ by one row.
    weight = 1.0 if rows is None else (rows.stop - rows.start) * fabric.world_size / config.batch_size
    state = _State(model, config, checkpoint)
    averaged, optimisers = state.averaged.to(fabric.device), state.optimisers
    module, *wrapped = fabric.setup(model, *optimisers.values())
    state.restore(fabric)
    optimiser_of = dict(zip(optimisers, wrapped, strict=True))
    progress = Progress(name, config.steps, unit="step", initial=state.step)
    started, spent_before, saved = clock(), state.seconds, time.monotonic()
    share_before, share = 0.0, _share_done(state.step, config.steps, state.seconds, seconds)
    bad = 0
    with _stop_requested() as stop:
        while not state.finished:
            record = state.step == 0 or int(100 * share) > int(100 * share_before)
            for i, part in enumerate(model.parts):
                generator = torch.Generator(fabric.device).manual_seed(_step_seed(seed, state.step, i))
                draws = Draws(generator, rows=rows, batch=config.batch_size)
                batch = batches(state.step * len(model.parts) + i, draws)
                optimiser = optimiser_of[part]
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate * _rate(share, config.warmup)
                optimiser.zero_grad()
                loss = weight * module(part, batch, draws)
                fabric.backward(loss)
                norm = nn.utils.clip_grad_norm_(model.parameters_of(part), config.clip)
                if torch.isfinite(norm):
                    optimiser.step()
                    bad = 0
                else:
                    bad += 1
                if record and math.isfinite(value := float(_mean(loss.detach(), fabric))):
                    state.losses.setdefault(part, []).append((state.step, value))
            if bad >= MAX_BAD_STEPS:
                msg = f"{name}: no finite gradient in {bad} steps up to step {state.step}; lower the learning rate"
                raise TrainingDiverged(msg)
            averaged.update_parameters(model)
            state.step += 1
            state.seconds, stopping = _agree(fabric, spent_before + clock() - started, stop.is_set())
            share_before, share = share, _share_done(state.step, config.steps, state.seconds, seconds)
            state.finished = share >= 1
            note = ", ".join(f"{part} loss {values[-1][1]:.4g}" for part, values in state.losses.items())
            progress.update(state.step, note, total=round(state.step / share))
            if int((looks + 1) * share) > int((looks + 1) * share_before) and not state.finished:
                began = clock()
                if watch is not None and fabric.is_global_zero:
                    watch(averaged.module)
                fabric.barrier()
                started += clock() - began
            if stopping and not state.finished:
                state.save(fabric)
                if fabric.is_global_zero:
                    logger.warning("%s: asked to end; checkpoint saved at step %d", name, state.step)
                raise TrainingInterrupted(128 + signal.SIGTERM)
            if state.finished or time.monotonic() - saved > config.checkpoint_seconds:
                state.save(fabric)
                saved = time.monotonic()
    if mute := sorted(set(model.parts) - set(state.losses)):
        text = f"{name}: not one finite loss in {state.step} steps ({', '.join(mute)}); lower the learning rate"
        raise TrainingDiverged(f"{text}, or look for what is not finite in the showers")
    logger.info("%s: %d steps in %.1f s", name, state.step, state.seconds)
    return Fit(averaged.module, state.step, state.seconds, state.losses)


class _State:
    """All that a training needs to go on: kept in memory and on disk."""

    def __init__(self, model: TrainableModel, config: TrainingConfig, path: Path) -> None:
        def average(old: _Tensors, new: _Tensors, n: Tensor | int) -> None:
            # Early averages would mostly remember the random start: the memory grows with the steps.
            decay = min(config.ema, (1 + int(n)) / (10 + int(n)))
            torch._foreach_lerp_(old, new, 1 - decay)

        self.model, self.path = model, path
        self.averaged = AveragedModel(model, multi_avg_fn=average)
        self.optimisers = {
            part: torch.optim.AdamW(
                model.parameters_of(part),
                lr=config.learning_rate,
                betas=model.betas,
                weight_decay=config.weight_decay,
                fused=True,
            )
            for part in dict.fromkeys(model.parts)
        }
        self.step, self.seconds, self.finished = 0, 0.0, False
        self.losses: dict[str, list[tuple[int, float]]] = {}

    def save(self, fabric: Fabric) -> None:
        if not fabric.is_global_zero:
            return
        content: dict[str, Any] = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": {part: optimiser.state_dict() for part, optimiser in self.optimisers.items()},
            "step": self.step,
            "seconds": self.seconds,
            "finished": self.finished,
            "losses": self.losses,
        }
        with atomic_file(self.path) as temporary:
            torch.save(content, temporary)

    def restore(self, fabric: Fabric) -> None:
        content = None
        if fabric.is_global_zero and self.path.is_file():
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        content = fabric.broadcast(content)
        if content is None:
            return
        self.model.load_state_dict(content["model"])
        self.averaged.load_state_dict(content["averaged"])
        for part, optimiser in self.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][part])
        self.step, self.seconds, self.finished = content["step"], content["seconds"], content["finished"]
        self.losses = content["losses"]
        logger.info("resuming %s at step %d", self.path.stem, self.step)


def _share(batch: int, fabric: Fabric) -> slice:
    """Return this process's rows of a batch."""
    return slice(batch * fabric.global_rank // fabric.world_size, batch * (fabric.global_rank + 1) // fabric.world_size)


def _mean(value: Tensor, fabric: Fabric) -> Tensor:
    """Return the mean of a number over all processes."""
    return cast("Tensor", fabric.all_reduce(value, reduce_op="mean"))


def _agree(fabric: Fabric, seconds: float, stop: bool) -> tuple[float, bool]:
    """Return the longest time of all processes, and whether any of them is asked to end.

    Clocks differ a little, and processes that do not end at the same step wait for each other for ever.
    """
    if fabric.world_size == 1:
        return seconds, stop
    numbers = torch.tensor([seconds, float(stop)], dtype=torch.float64, device=fabric.device)
    longest, stopping = cast("Tensor", fabric.all_reduce(numbers, reduce_op="max")).tolist()
    return longest, bool(stopping)


def _share_done(step: int, steps: int, spent: float, limit: float | None) -> float:
    return max(step / steps, spent / limit if limit is not None else 0.0)


def _rate(share: float, warmup: float) -> float:
    """Return the learning rate relative to its peak: a linear rise, then half a cosine."""
    if share < warmup:
        return max(share / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def _step_seed(*numbers: int) -> int:
    """Mix numbers into one seed so that neighbours have nothing in common."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def _stop_requested() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets; handlers can be set only in the main thread."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        event.set()

    previous = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, previous)
