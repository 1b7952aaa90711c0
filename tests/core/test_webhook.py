import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from caloforge.webhook import WEBHOOK, announce, final_status

SECRET = "T0P-S3CR3T-PATH"
STATUS = SimpleNamespace(state="FAILED", error_code=9, error_message="Task train failed.")


class _Chat(HTTPServer):
    status = 200

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Chat

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Chat]:
    with _Chat() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_port}/{SECRET}")
        yield server
        server.shutdown()
        thread.join()


def _summary() -> dict[str, Any]:
    return final_status(STATUS, pipeline="caloforge", run="first", run_id="abc")


def test_the_status_is_posted_and_the_address_stays_secret(chat: _Chat, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):  # as kfp sets it for everything in a task
        assert announce(_summary())
    [(path, post)] = chat.posts
    assert path == f"/{SECRET}"
    assert post["text"] == "caloforge: run first ended with FAILED: Task train failed."
    assert (post["state"], post["run_id"], post["error_code"]) == ("FAILED", "abc", 9)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("status", [302, 403, 500])
def test_a_refusal_ends_nothing(chat: _Chat, caplog: pytest.LogCaptureFixture, status: int) -> None:
    chat.status = status
    with caplog.at_level(logging.INFO):
        assert not announce(_summary())
    assert f"status {status}" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "address", [f"http://127.0.0.1:1/{SECRET}", f"{SECRET}", f"ftp://{SECRET}", f"http://[{SECRET}"]
)
def test_an_address_that_leads_nowhere_ends_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(WEBHOOK, address)
    with caplog.at_level(logging.INFO):
        assert not announce(_summary())
    assert "cannot be reached" in caplog.text
    assert SECRET not in caplog.text


def test_without_an_address_the_log_has_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)
    with caplog.at_level(logging.INFO, logger="caloforge"):
        assert not announce(_summary())
    assert caplog.messages == [f"{_summary()['text']} (no webhook is set)"]
