"""The command line: parse, call one function of the package, report.

One file for each group of commands; each command imports the heavy libraries (torch, kfp, kserve, matplotlib) that it
needs itself, so that ``caloforge --help`` answers at once.
"""

from caloforge.cli import (
    ablation,
    cluster,
    comparison,
    inference,
    kubeflow,
    public,
    refinement,
    serving,
    showers,
    simulation,
    sources,
    training,
    whole,
)
from caloforge.cli.group import main

__all__ = [
    "ablation",
    "cluster",
    "comparison",
    "inference",
    "kubeflow",
    "main",
    "public",
    "refinement",
    "serving",
    "showers",
    "simulation",
    "sources",
    "training",
    "whole",
]
