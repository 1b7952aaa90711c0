"""Figures on standard output, for people and for Katib's collector."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from caloforge.outputs import is_standard_output


def print_figures(figures: dict[str, Any], *, beside: Path | None = None) -> None:
    """Print ``name=value`` lines, which Katib's metrics collector reads too.

    Args:
        figures: name to value.
        beside: what was written; where that went to standard output, the figures go to standard error.
    """
    for name, value in figures.items():
        say(f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}", beside=beside)


def say(text: str, *, beside: Path | None) -> None:
    """Print a line; to standard error if the result went to standard output."""
    click.echo(text, err=beside is not None and is_standard_output(beside))


def print_figures_with_time(figures: Mapping[str, Any]) -> None:
    """Print ``TIME name=value`` lines at once; by the time Katib knows the order of values. Tell Trainer too."""
    from caloforge.tuning.trainer import tell_trainer

    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    for name, value in figures.items():
        click.echo(f"{now} {name}={value:.6g}")
    sys.stdout.flush()
    tell_trainer(figures)
