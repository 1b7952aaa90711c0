"""Devices, precision and processes of a training, from what torchrun tells the process."""

from __future__ import annotations

import logging
import os

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from caloforge.errors import InputError


def open_fabric(*, parts: int = 1, exact: bool = False) -> Fabric:
    """Return the devices of this training: one process alone, or all those that torchrun started.

    Each process takes a GPU of its own if there are any, with bfloat16 where the GPU has it. GPUs
    talk through NCCL, CPUs through Gloo.

    Args:
        parts: different parts of a model that take turns; a process must know that the others rest.
        exact: float32 wherever it trains.

    Raises:
        InputError: there are more processes than GPUs on this node.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets from every process
    on_gpu = torch.cuda.is_available()
    here, everywhere = (
        (int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"]))
        if torch.distributed.is_torchelastic_launched()
        else (1, 1)
    )
    if on_gpu and here > torch.cuda.device_count():
        raise InputError(f"{here} processes, but only {torch.cuda.device_count()} GPUs on this node")
    fabric = Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=here,
        num_nodes=everywhere // here,
        strategy=DDPStrategy(find_unused_parameters=parts > 1) if everywhere > 1 else "auto",
        precision="bf16-mixed" if has_bfloat16() and not exact else "32-true",
    )
    fabric.launch()
    return fabric


def has_bfloat16() -> bool:
    """Return whether trainings have a GPU that computes with bfloat16."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
