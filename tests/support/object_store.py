"""A local HTTP server that speaks as much S3 as reading needs, and plain HTTP besides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from local_server import QuietHandler, listening


class ObjectStore:
    """Objects by their path, ``bucket/key``.

    Attributes:
        objects: path to content.
        script: what goes wrong, one entry for each request: ``"none"``, an HTTP status, or ``"short"`` for
            an answer that breaks off.
        requests: (method, path with query, value of the Authorization header).
        url: address of the server.
    """

    def __init__(self, **objects: bytes) -> None:
        self.objects: dict[str, bytes] = dict(objects)
        self.script: list[int | str] = []
        self.requests: list[tuple[str, str, str]] = []
        self.url = ""

    def listing(self, bucket: str, prefix: str, delimiter: str) -> str:
        """Return the answer to a ListObjectsV2 request."""
        contents, common = "", set()
        for path, content in sorted(self.objects.items()):
            place, _, key = path.partition("/")
            if place != bucket or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common.add(prefix + rest.split(delimiter)[0] + delimiter)
                continue
            contents += (
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>{_etag(content)}</ETag><Size>{len(content)}</Size></Contents>"
            )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(common))
        return (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
            f"{contents}{prefixes}</ListBucketResult>"
        )


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


@contextmanager
def serving(store: ObjectStore) -> Iterator[ObjectStore]:
    """Serve the objects on a free port of this machine; the address is ``store.url``."""

    class Handler(QuietHandler):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            store.requests.append((self.command, self.path, self.headers.get("Authorization", "")))
            fault = store.script.pop(0) if store.script else "none"
            parts = urlsplit(self.path)
            path, query = parts.path.strip("/"), parse_qs(parts.query)
            if isinstance(fault, int):
                code = "AccessDenied" if fault == 403 else "InternalError"
                self._send(fault, f"<Error><Code>{code}</Code><Message>as the script says</Message></Error>".encode())
            elif "list-type" in query:
                prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
                self._send(200, store.listing(path, prefix, delimiter).encode())
            elif path not in store.objects:
                self._send(404, b"<Error><Code>NoSuchKey</Code><Message>nothing there</Message></Error>")
            else:
                self._send_object(store.objects[path], short=fault == "short")

        def _send_object(self, content: bytes, *, short: bool) -> None:
            wanted = self.headers.get("Range")
            if not wanted:
                self._send(200, content, tag=_etag(content), short=short)
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last) + 1 if last else None]
            where = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
            self._send(206, part, tag=_etag(content), where=where, short=short)

        def _send(self, code: int, body: bytes, *, tag: str = "", where: str = "", short: bool = False) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Accept-Ranges", "bytes")
            if tag:
                self.send_header("ETag", tag)
            if where:
                self.send_header("Content-Range", where)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if short else body)
            if short:
                self.close_connection = True

    with listening(Handler) as store.url:
        yield store
