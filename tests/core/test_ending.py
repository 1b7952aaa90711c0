from pathlib import Path

import pytest

from caloforge import ending
from caloforge.ending import MESSAGE_BYTES, Ending, cause_of, one_line, read_ending, write_ending
from caloforge.errors import InputError

FAILED = Ending("train", "vae", "failed", "the loss is not finite")


@pytest.mark.parametrize("written", [FAILED, Ending("preprocess", "", "succeeded")])
def test_the_line_is_read_as_it_was_written(written: Ending) -> None:
    log = f"I1126 launcher\n08:00:00  {written.line}\n[KFP Executor] done\n"
    assert read_ending(log) == written


def test_the_line_is_what_others_look_for() -> None:
    assert FAILED.line == (
        'caloforge-end: {"step": "train", "family": "vae", "state": "failed", "cause": "the loss is not finite"}'
    )


def test_the_last_whole_line_counts() -> None:
    first = Ending("train", "vae", "succeeded")
    assert read_ending(f"{first.line}\n{FAILED.line}\n{FAILED.line[:30]}\n") == FAILED
    assert read_ending("nothing of ours") is None


def test_a_message_that_kubernetes_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setattr(ending, "TERMINATION_LOG", message)
    write_ending(Ending("train", "", "failed", "\N{GREEK SMALL LETTER PHI}" * MESSAGE_BYTES))
    assert 0 < len(message.read_bytes()) <= MESSAGE_BYTES
    assert set(message.read_text()) == {"\N{GREEK SMALL LETTER PHI}"}


def test_success_is_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setattr(ending, "TERMINATION_LOG", message)
    write_ending(Ending("train", "vae", "succeeded"))
    assert message.read_text() == ""


def test_no_file_is_made_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "TERMINATION_LOG", tmp_path / "none")
    write_ending(FAILED)
    assert not list(tmp_path.iterdir())


def test_our_errors_are_sentences() -> None:
    assert (
        cause_of(InputError("s3://data/nothing.hdf5: nothing is there")) == "s3://data/nothing.hdf5: nothing is there"
    )
    assert cause_of(KeyError("vae")) == "KeyError: 'vae'"
    assert cause_of(MemoryError()) == "MemoryError"
    assert cause_of(InputError("")) == "InputError"


def test_a_cause_is_one_short_line() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("x" * 10_000)) == 1000


def test_no_secret_gets_into_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted-key")
    text = one_line("https://me:pass@host/a?X-Amz-Signature=abc&x=1 with planted-secret of planted-key")
    assert text == "https://***@host/a?X-Amz-Signature=***&x=1 with *** of ***"
