from pathlib import Path

import pytest

from caloforge.serving.errors import ServingError
from caloforge.serving.local import running_server


def test_a_server_that_dies_shows_why(tmp_path: Path) -> None:
    with (
        pytest.raises(ServingError, match=r"(?s)ended with code 2; its log ends:.*nowhere"),
        running_server(tmp_path / "nowhere"),
    ):
        pytest.fail("a bundle that is not there was served")
