"""Files of web servers: https:// and http://."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import httpx

from caloforge import __version__
from caloforge.errors import InputError
from caloforge.network import trust, web_client
from caloforge.patience import PASSING
from caloforge.secrets import masked, remember_address, without_secrets
from caloforge.store import CONNECT_SECONDS, READ_SECONDS, Away, Found, explained

_DENIED = {401, 403, 407}


class WebStore:
    """One file of a web server; redirects are followed, proxies are those of the environment."""

    def __init__(self, address: str) -> None:
        self._address, self.shown = address, without_secrets(address)
        remember_address(address)
        self._client = web_client(
            address,
            follow_redirects=True,
            verify=trust(),
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # Compressed on the way, a file could be neither measured nor continued.
            headers={"Accept-Encoding": "identity", "User-Agent": f"caloforge/{__version__}"},
        )

    def look(self) -> Found:
        """Ask with HEAD, and for the first byte where the server wants no HEAD (a signed address of S3)."""
        answer = self._send("HEAD")
        answer.close()
        if answer.status_code in PASSING | {404, 410}:
            self._check(answer)
        if answer.status_code != 200:
            answer = self._send("GET", {"Range": "bytes=0-0"})
            answer.close()
            if answer.status_code not in (206, 416):  # 416: the file is empty
                self._check(answer)
        length = answer.headers.get("Content-Range", "").rpartition("/")[2] or answer.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else None
        marks = {name: answer.headers[name] for name in ("ETag", "Last-Modified") if answer.headers.get(name)}
        return Found(self.shown, size, marks | ({} if size is None else {"size": str(size)}))

    def read(self, found: Found, start: int) -> tuple[int, Generator[bytes, None, None]]:
        """Go on at ``start`` if the server knows ranges and the file is the same, else begin anew."""
        headers = {}
        mark = found.marks.get("ETag") or found.marks.get("Last-Modified")
        if start and mark:
            headers = {"Range": f"bytes={start}-", "If-Range": mark}
        answer = self._send("GET", headers)
        try:
            self._check(answer)
            if answer.status_code == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise InputError(f"{self.shown}: the server sends another part than the one asked for")
        except BaseException:
            answer.close()
            raise
        return start if answer.status_code == 206 else 0, self._blocks(answer)

    def files(self) -> list[str]:
        """Refuse: a web server lists nothing."""
        raise InputError(f"{self.shown}: a web server's folders cannot be listed; give the address of a file")

    def at(self, below: str) -> WebStore:
        """Refuse: a web server lists nothing."""
        raise InputError(f"{self.shown}: a web server has no folders")

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _send(self, method: str, headers: dict[str, str] | None = None) -> httpx.Response:
        try:
            return self._client.send(self._client.build_request(method, self._address, headers=headers), stream=True)
        except httpx.UnsupportedProtocol:  # of a redirect; asking again would not help
            raise InputError(f"{self.shown}: leads to an address that is neither https:// nor http://") from None
        except httpx.TransportError as error:
            raise explained(error, self._address, self.shown) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(masked(f"{self.shown}: {type(error).__name__}: {error}")) from None

    def _blocks(self, answer: httpx.Response) -> Generator[bytes, None, None]:
        blocks: Iterator[Any] = (
            answer.iter_raw()
        )  # as they come: of blocks of a size, what came of the last would be lost
        try:
            while True:
                try:
                    block = next(blocks)
                except StopIteration:
                    return
                except httpx.TransportError as error:
                    raise explained(error, self._address, self.shown) from None
                yield block
        finally:
            answer.close()

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status in (200, 206):
            return
        if status in (404, 410):
            raise InputError(f"{self.shown}: nothing is there")
        if status in _DENIED:
            raise InputError(f"{self.shown}: access is denied (the server answers {status})")
        text = f"the server answers {status} {answer.reason_phrase}".rstrip()
        raise Away(text) if status in PASSING else InputError(f"{self.shown}: {text}")
