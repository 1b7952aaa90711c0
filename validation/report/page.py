"""What the pages that we write have in common: templates, and how they print numbers."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from caloforge.validation.significance import LARGEST


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; all that comes in is text and no HTML, unless it is marked."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters.update(number=number, uncertainty=uncertainty, distance=distance)
    source = (files("caloforge.validation.report") / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)


def picture(path: Path) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def number(value: float | None) -> str:
    """Format a number with three digits."""
    if value is None:
        return "-"
    return f"{value:.3g}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.2e}"


def uncertainty(value: float) -> str:
    """Format an error with two digits at most."""
    if 10 <= value < 1e4:
        return f"{value:.0f}"
    return f"{value:.1g}" if value == 0 or 1e-3 <= abs(value) < 10 else f"{value:.1e}"


def distance(sigma: float) -> str:
    """Format a distance in standard deviations; what lies below the floor has none."""
    return f"{'≥ ' if sigma >= LARGEST else ''}{max(round(sigma, 1), 0.0):.1f} \N{GREEK SMALL LETTER SIGMA}"
