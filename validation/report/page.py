"""What the pages that we write have in common: templates, and how they print numbers."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from caloforge.validation.significance import LARGEST


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; all that comes in is text and no HTML, unless it is marked."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters.update(number=number, uncertainty=uncertainty, distance=distance)
    source = (files("caloforge.validation.report") / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(policy=Markup(_policy(source)), **values)


def _policy(template: str) -> str:
    """Return the content policy of a page: it may show its own pictures, and run and look as the template says.

    The digests are those of the template's own elements, into which nothing is filled: what got into a page besides
    would neither run nor change its looks.
    """

    def own(element: str) -> str:
        found = re.findall(rf"<{element}>(.*?)</{element}>", template, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
        return f"; {element}-src " + " ".join(f"'sha256-{digest}'" for digest in digests) if digests else ""

    return f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'{own('style')}{own('script')}"


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
