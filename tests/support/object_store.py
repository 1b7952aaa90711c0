"""A local HTTP server that speaks as much S3 as reading needs, and plain HTTP besides.

As MinIO does: buckets by path only, HEAD without a body, any region, keys looked up.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from local_server import QuietHandler, listening

BLOCK = 64 * 1024

_MESSAGES = {
    "AccessDenied": (403, "Access Denied."),
    "InvalidAccessKeyId": (403, "The Access Key Id you provided does not exist in our records."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
    ),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "SlowDownRead": (503, "Resource requested is unreadable, please reduce your request rate"),
}


class ObjectStore:
    """Objects by their path, ``bucket/key``.

    Attributes:
        objects: path to content.
        keys: names of the keys that may read; None: anybody may, signed or not.
        script: what goes wrong, one entry for each request: ``"none"``, an HTTP status, the code of
            an S3 error, ``"short"`` for an answer that breaks off in the middle, or ``"hang up"``.
        ranges: whether ranges are known.
        marks: whether ETag and Last-Modified are sent.
        head: whether HEAD is known.
        seconds_per_block: the time that 64 KiB take.
        redirects: path to address.
        requests: (method, path with query, value of the Authorization header).
        sent: bytes of objects that were sent.
        url: address of the server.
    """

    def __init__(self, **objects: bytes) -> None:
        self.objects: dict[str, bytes] = dict(objects)
        self.keys: set[str] | None = None
        self.script: list[int | str] = []
        self.ranges = self.marks = self.head = True
        self.seconds_per_block = 0.0
        self.redirects: dict[str, str] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.sent = 0
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

    def gets(self) -> list[str]:
        """Return the paths of the objects that were asked for."""
        return [path for method, path, _ in self.requests if method == "GET" and "list-type" not in path]


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


@contextmanager
def serving(store: ObjectStore) -> Iterator[ObjectStore]:
    """Serve the objects on a free port of this machine; the address is ``store.url``."""

    class Handler(QuietHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            authorization = self.headers.get("Authorization", "")
            store.requests.append((self.command, self.path, authorization))
            store.headers.append(dict(self.headers))
            fault = store.script.pop(0) if store.script else "none"
            parts = urlsplit(self.path)
            path, query = unquote(parts.path).strip("/"), parse_qs(parts.query)
            key = re.search(r"Credential=([^/]+)/", authorization)
            buckets = {known.partition("/")[0] for known in store.objects}
            if fault == "hang up":
                self.close_connection = True
            elif isinstance(fault, int):
                self._refuse("AccessDenied" if fault == 403 else "InternalError", fault)
            elif fault in _MESSAGES:
                self._refuse(fault)
            elif path in store.redirects:
                self._send(302, b"", location=store.redirects[path])
            elif self.command == "HEAD" and not store.head:
                self._send(405, b"")
            elif store.keys is not None and key is None:
                self._refuse("AccessDenied")
            elif store.keys is not None and key is not None and key[1] not in store.keys:
                self._refuse("InvalidAccessKeyId")
            elif "list-type" in query and path in buckets:
                prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
                self._send(200, store.listing(path, prefix, delimiter).encode())
            elif path.partition("/")[0] not in buckets:
                self._refuse("NoSuchBucket")
            elif path not in store.objects:
                self._refuse("NoSuchKey")
            else:
                self._send_object(store.objects[path], short=fault == "short")

        def _refuse(self, code: str, status: int = 0) -> None:
            known, message = _MESSAGES.get(code, (500, "as the script says"))
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self._send(status or known, body.encode())

        def _send_object(self, content: bytes, *, short: bool) -> None:
            tag = _etag(content)
            wanted = self.headers.get("Range")
            if self.headers.get("If-Match", tag) != tag:
                self._refuse("PreconditionFailed")
            elif not wanted or not store.ranges or self.headers.get("If-Range", tag) != tag:
                self._send(200, content, tag=tag, short=short)
            else:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                part = content[int(first) : int(last) + 1 if last else None]
                if not part:
                    self._refuse("InvalidRange")
                    return
                where = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
                self._send(206, part, tag=tag, where=where, short=short)

        def _send(
            self, code: int, body: bytes, *, tag: str = "", where: str = "", location: str = "", short: bool = False
        ) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            if store.marks:
                self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            if store.ranges:
                self.send_header("Accept-Ranges", "bytes")
            for name, value in (("ETag", tag if store.marks else ""), ("Content-Range", where), ("Location", location)):
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if short:
                self.close_connection = True
            if self.command == "HEAD":
                return
            body = body[: len(body) // 2] if short else body
            for start in range(0, len(body), BLOCK):
                if tag:
                    time.sleep(store.seconds_per_block)
                    store.sent += len(body[start : start + BLOCK])
                try:
                    self.wfile.write(body[start : start + BLOCK])
                except ConnectionError:  # who asked was killed
                    self.close_connection = True
                    return

    with listening(Handler) as store.url:
        yield store
