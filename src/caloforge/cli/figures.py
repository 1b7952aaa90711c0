"""Figures on standard output, for people and for Katib's collector."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click


def print_figures(figures: dict[str, Any]) -> None:
    """Print ``name=value`` lines, which Katib's metrics collector reads too."""
    for name, value in figures.items():
        click.echo(f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}")


def print_figures_with_time(figures: Mapping[str, Any]) -> None:
    """Print ``TIME name=value`` lines at once; by the time Katib knows the order of values. Tell Trainer too."""
    from caloforge.tuning.trainer import tell_trainer

    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    for name, value in figures.items():
        click.echo(f"{now} {name}={value:.6g}")
    sys.stdout.flush()
    tell_trainer(figures)
