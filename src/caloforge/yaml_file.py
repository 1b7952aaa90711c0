"""YAML that people write: read strictly, with one line for each thing that can be wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from caloforge.errors import InputError

MOST_VALUES = 100_000
"""Of a document whose aliases are followed: a few lines of aliases of aliases stand for billions."""

_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """PyYAML takes the last of equal keys without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, None if it is empty.

    Raises:
        InputError: it cannot be read, or :func:`parse_yaml` refuses its content.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a YAML file ({error})") from None
    return parse_yaml(text, where=str(path))


def parse_yaml(text: str, *, where: str) -> Any:
    """Return what a YAML text holds, None if it is empty.

    Args:
        text: one document.
        where: where it came from, for the message.

    Raises:
        InputError: it is not YAML, a key is there twice, or it is nested without end.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
        for number, _ in enumerate(_values(values)):
            if number > MOST_VALUES:
                raise InputError(f"{where}: more than {MOST_VALUES} values, aliases followed")
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not a YAML file ({_said(error)})") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply, or an alias holds itself") from None
    except ValueError as error:  # a date or a number that is none, of PyYAML's constructors
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: not a YAML file ({error})") from None
    return values


def _said(error: yaml.YAMLError) -> str:
    """Return what is wrong and where; PyYAML would quote the line, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or type(error).__name__)
    if "undefined alias" in problem:
        problem = "a value that begins with * names nothing; quote it"
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else problem


def _values(value: Any) -> Iterator[Any]:
    yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _values(one)
