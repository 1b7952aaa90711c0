"""Names of others within Markdown and CSV: text that stays text, whoever chose it."""

from __future__ import annotations

import re

_MARKS = re.compile(r"([\\`*\[\]|~#!])|(?<!\w)(_)|(_)(?!\w)")
"""What begins something in GitHub's Markdown; an underscore within a word does not."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain(text: object) -> str:
    """Return a text for a line or a cell of a table: no HTML, no links or pictures, no further column or line."""
    line = _line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKS.sub(lambda match: f"\\{match[0]}", line)


def code(text: object) -> str:
    """Return a text as it is typed, within back quotes; a back quote or a bar of its own would end them."""
    line = _line(text)
    return f"`{line.replace('`', chr(0x2019)).replace('|', chr(0x2223))}`"


def _line(text: object) -> str:
    """Return a text on one line, without what terminals take for commands and what turns the direction of writing."""
    return "".join(letter for letter in " ".join(str(text).split()) if letter.isprintable())


def cell(value: object) -> object:
    """Return a value for CSV; a spreadsheet takes a text that begins as a formula for one, behind ``'`` it does not."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
