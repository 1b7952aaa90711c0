import logging

import pytest

from caloforge.logs import LINE, configure_logging


def test_every_line_of_a_message_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    configure_logging()
    logger = logging.getLogger("caloforge.test")
    logger.info("first\nsecond")
    logger.warning("careful")
    lines = capsys.readouterr().err.splitlines()
    matches = [LINE.fullmatch(line) for line in lines]
    assert [match and (match["level"], match["message"]) for match in matches] == [
        (None, "first"),
        (None, "second"),
        ("WARNING", "careful"),
    ]


def test_no_terminal_is_told_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    logging.getLogger("caloforge.test").warning("got %s", "a\x1b[2J\u202eb\té")
    assert capsys.readouterr().err.endswith("WARNING: got a\\x1b[2J\\u202eb\té\n")
