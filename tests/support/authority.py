"""A certificate authority that only a test knows, servers that it vouches for, and a proxy that says who came through."""

from __future__ import annotations

import base64
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from local_server import QuietHandler, listening


class Authority:
    """Signs certificates for 127.0.0.1; ``certificate`` is the PEM file of its own one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of a test")])
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        signed = own.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.certificate = folder / "authority.pem"
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def context(self, *, address: str = "127.0.0.1", ended: bool = False) -> ssl.SSLContext:
        """Return what a server at an address needs to speak TLS; ``ended``: with a certificate of last year."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server of a test")])
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
        built = self._builder(name, key, ended=ended).add_extension(names, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = built.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        file = self._folder / "server.pem"
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        file.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()) + signed.public_bytes(pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ended: bool = False
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + timedelta(days=-1 if ended else 1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )


class Proxy:
    """What came through: ``asked`` holds (method, host and port or address, user:password)."""

    def __init__(self, *, password: str = "") -> None:
        self.password, self.url = password, ""
        self.asked: list[tuple[str, str, str]] = []


@contextmanager
def proxying(proxy: Proxy) -> Iterator[Proxy]:
    """Run a proxy that tunnels (CONNECT) to this machine whatever the host is called."""

    class Handler(QuietHandler):
        def do_CONNECT(self) -> None:
            given = self.headers.get("Proxy-Authorization", "").partition(" ")[2]
            user = base64.b64decode(given).decode()
            proxy.asked.append((self.command, self.path, user))
            if proxy.password and user.partition(":")[2] != proxy.password:
                self.send_error(407)
                return
            port = int(self.path.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as there:
                self.send_response(200)
                self.end_headers()
                _join(self.connection, there)

    with listening(Handler) as proxy.url:
        yield proxy


def _join(one: socket.socket, other: socket.socket) -> None:
    """Hand bytes on in both directions until one side has ended."""
    to = {one: other, other: one}
    while True:
        for ready in select.select(list(to), [], [])[0]:
            try:
                data = ready.recv(65536)
            except OSError:
                return
            if not data:
                return
            to[ready].sendall(data)


@contextmanager
def speaking_tls(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """Give a plain server a door that speaks TLS; yields its address."""
    plain = urlsplit(url)

    class Door(BaseHTTPRequestHandler):
        def handle(self) -> None:
            try:
                secure = context.wrap_socket(self.request, server_side=True)
            except (ssl.SSLError, OSError):  # the client does not trust us
                return
            with secure, socket.create_connection((plain.hostname, plain.port)) as there:
                _join(secure, there)

        def finish(self) -> None:
            pass

    with listening(Door) as door:
        yield door.replace("http://", "https://")
