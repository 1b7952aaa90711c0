"""An answer carries a geometry of cells as it does one of rings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from cell_grids import focal

from caloforge.errors import InputError
from caloforge.serving.answers import v2_body
from caloforge.serving.client import _JSON_LENGTH, _answer


def response(**parameters: str) -> httpx.Response:
    query: Any = SimpleNamespace(identity="1", geometry=True, form="binary")
    drawn: Any = SimpleNamespace(showers=np.full((2, 249), 3, np.float32), log_likelihood=None)
    parts, length = v2_body(query, drawn, model="mine", geometry=focal())
    content = b"".join(bytes(part) for part in parts)
    for old, new in parameters.items():
        changed = content.replace(old.encode(), new.encode())
        length = cast("int", length) + len(changed) - len(content)
        content = changed
    return httpx.Response(200, content=content, headers={_JSON_LENGTH: str(length)})


def test_the_client_reads_the_cells() -> None:
    answer = _answer("http://here", response(), 2, score=False)
    assert answer.geometry == focal()
    assert (answer.showers == 3).all()


def test_an_answer_without_a_geometry_is_none_of_a_shower_server() -> None:
    with pytest.raises(InputError, match="not that of a shower server"):
        _answer("http://here", response(geometry_csv="geometry_obj"), 2, score=False)
