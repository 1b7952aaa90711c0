import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from caloforge.errors import InputError
from caloforge.serving.client import query, wait_until_ready
from caloforge.serving.errors import ServingError
from caloforge.serving.limits import MAX_SHOWERS_PER_REQUEST
from caloforge.serving.local import free_port
from caloforge.showers import Conditions


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """Answer every request alike, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def some(n: int) -> Conditions:
    return Conditions(np.full(n, 1e4))


@pytest.mark.parametrize(("n", "text"), [(0, "at least one"), (MAX_SHOWERS_PER_REQUEST + 1, "at most 10000")])
def test_zero_and_too_many_showers_are_refused_before_asking(n: int, text: str) -> None:
    with pytest.raises(InputError, match=text):
        query("http://127.0.0.1:9", some(n), seed=0)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_does_not_fit_is_refused_before_asking(seed: int) -> None:
    with pytest.raises(InputError, match="seed: expected an integer from 0 to"):
        query("http://127.0.0.1:9", some(1), seed=seed)


def test_no_server() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(InputError, match=f"{url}: no server answers .*caloforge serve"):
        query(url, some(1), seed=0)
    with pytest.raises(InputError, match=f"{url}: model 'caloforge' is not ready after 0.2 s"):
        wait_until_ready(url, timeout=0.2)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost:8080", "ftp://host", "http://host:port", ""])
def test_not_an_address(url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a server"):
        query(url, some(1), seed=0)
    with pytest.raises(InputError, match="is not the address of a server"):
        wait_until_ready(url)


@pytest.mark.parametrize(
    ("status", "body", "headers", "text"),
    [
        (200, b"<html>Welcome</html>", {}, "not that of a shower server"),
        (200, b'{"outputs": []}', {"Inference_Header_Content_Length": "15"}, "not that of a shower server"),
        (302, b"", {"Location": "https://dex/login"}, "redirected to https://dex/login: a login page"),
        (403, b"RBAC: access denied", {}, "not allowed .HTTP 403: RBAC: access denied.*Authorization"),
        (404, b'{"detail": "Not Found"}', {}, "Not Found"),
        (400, b'{"error": "too hot"}', {}, "too hot"),
    ],
)
def test_an_answer_that_is_no_shower(status: int, body: bytes, headers: dict[str, str], text: str) -> None:
    with answering(status, body, **headers) as url, pytest.raises(InputError, match=text):
        query(url, some(1), seed=0)


def test_a_failing_server_is_not_the_users_fault() -> None:
    with answering(500, b'{"error": "sampling failed"}') as url, pytest.raises(ServingError, match="sampling failed"):
        query(url, some(1), seed=0)


def test_a_login_page_ends_the_waiting() -> None:
    with answering(302, b"", Location="https://dex/login") as url, pytest.raises(InputError, match="login page"):
        wait_until_ready(url)
