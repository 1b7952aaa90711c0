from __future__ import annotations

import pytest

from caloforge.markdown import code, plain


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\u202e[31mb", "a\x00[31mb", "a\x07[31mb", "a\u200b[31mb"])
def test_names_are_no_commands_for_terminals(text: str) -> None:
    assert plain(text) == "a\\[31mb"
    assert code(text) == "`a[31mb`"


def test_names_stay_on_their_line() -> None:
    assert plain("a\n| b") == "a \\| b"
    assert code("`a`\r\nb | c") == "`\u2019a\u2019 b \u2223 c`"
    assert plain("Université ❤ <b>") == "Université ❤ &lt;b&gt;"
