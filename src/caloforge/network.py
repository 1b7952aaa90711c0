"""How all connections of the package go out: whose certificates are trusted, and through which proxy.

Certificates are those of ``SSL_CERT_FILE`` where it is set (``--ca-cert`` sets it), as OpenSSL, curl and httpx have it: the
file replaces the usual ones. Proxies are those of ``HTTPS_PROXY`` and ``HTTP_PROXY``, but for the hosts of ``NO_PROXY``: names
and what ends as they do, addresses, either with a port, networks (``10.0.0.0/8``), or ``*`` for all.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from caloforge.errors import InputError
from caloforge.secrets import masked, remember_address

if TYPE_CHECKING:
    import httpx

CA_FILE = "SSL_CERT_FILE"
"""Environment variable: file of the certificates that are trusted, as PEM."""

HINT = f"name the file of your site's certificates with --ca-cert or {CA_FILE}"

_NO_PROXY = ("no_proxy", "NO_PROXY")

_EXPIRED, _NOT_YET, _OTHER_NAMES = 10, 9, (62, 64)
"""Codes of X509_verify_cert_error_string: expired, not yet valid, other host, other address."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


def ca_file() -> str | None:
    """Return the file of the certificates that are trusted, None for the usual ones.

    Raises:
        InputError: it cannot be read or holds none, or a proxy of the environment is none.
    """
    check_proxies()
    if not (path := os.environ.get(CA_FILE)):
        return None
    check_ca_file(Path(path), where=f"{CA_FILE}: {path}")
    return path


def check_ca_file(path: Path, *, where: str) -> None:
    """Refuse a file without certificates.

    Raises:
        InputError: it cannot be read or holds none.
    """
    try:
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise InputError(f"{where}: holds no certificates; expected PEM, -----BEGIN CERTIFICATE-----") from None
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror})") from None


def check_proxies() -> None:
    """Refuse proxies of the environment that no connection can go through; each library fails of them in its own way.

    Raises:
        InputError: the variable, and what is wrong with it.
    """
    for kind, proxy in urllib.request.getproxies_environment().items():
        if kind not in ("http", "https", "all") or not proxy:
            continue
        remember_address(proxy)
        name = f"{kind.upper()}_PROXY"
        parts = urlsplit("")
        with suppress(ValueError):
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme.startswith("socks"):
            raise InputError(f"{name}: SOCKS proxies are not supported; give one of HTTP, or unset it")
        if parts.scheme not in ("http", "https") or not _is_host(parts):
            raise InputError(
                f"{name}: is not the address of a proxy; expected http://HOST:PORT, or what else your site says"
            )


def _is_host(parts: SplitResult) -> bool:
    """Return whether an address has a host, and a port if any, that can be."""
    try:
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and not any(one.isspace() or not one.isprintable() for one in parts.netloc)


def trust() -> ssl.SSLContext | bool:
    """Return what httpx takes as ``verify``.

    Raises:
        InputError: see :func:`ca_file`.
    """
    path = ca_file()
    return ssl.create_default_context(cafile=path) if path else True


def check_address(url: str) -> None:
    """Refuse an address of the web that no server can have; otherwise it would be waited for.

    Raises:
        InputError: with what is wrong with it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{masked(url)}: not an address ({error})") from None
    if not host or any(one.isspace() or not one.isprintable() for one in parts.netloc):
        raise InputError(f"{masked(url)}: not an address; expected https://HOST[:PORT]/...")


def heed_no_proxy(url: str) -> None:
    """Have everything go straight to an address that lies in a network of ``NO_PROXY``.

    Libraries know no networks there; so the address is added by itself, for this process and those that it starts. As with
    curl and Go, names are not looked up for it.
    """
    try:
        address = ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return
    for variable in _NO_PROXY:
        named = [one.strip() for one in os.environ.get(variable, "").split(",")]
        if str(address) not in named and any(_holds(one, address) for one in named):
            shown = [str(address)] if address.version == 4 else [str(address), f"[{address}]"]
            os.environ[variable] = ",".join([*named, *shown])


def web_client(url: str, **options: Any) -> httpx.Client:
    """Return httpx's client for an address, with the proxies of the environment.

    Args:
        url: what it is for.
        options: of :class:`httpx.Client`.
    """
    import httpx

    heed_no_proxy(url)
    before = {name: os.environ[name] for name in _NO_PROXY if name in os.environ}
    try:
        for name, text in before.items():  # httpx takes a network for a host, and fails of one of IPv6
            os.environ[name] = ",".join(one for one in text.split(",") if "/" not in one or "://" in one)
        return httpx.Client(**options)
    finally:
        os.environ.update(before)


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Return whether a text is a network with an address in it."""
    try:
        return "/" in network and address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def proxy_of(url: str) -> tuple[str, dict[str, str]] | None:
    """Return the proxy for an address, without its password, and the headers that it wants; None for a direct way.

    Raises:
        InputError: see :func:`check_proxies`.
    """
    check_proxies()
    heed_no_proxy(url)
    parts = urlsplit(url)
    found = urllib.request.getproxies_environment()
    proxy = found.get(parts.scheme) or found.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    remember_address(proxy)
    to = urlsplit(proxy)
    plain = f"{to.scheme}://{to.netloc.rpartition('@')[2]}"
    if to.username is None:
        return plain, {}
    from urllib3 import make_headers

    return plain, dict(make_headers(proxy_basic_auth=f"{unquote(to.username)}:{unquote(to.password or '')}"))


def lasting_problem(error: BaseException) -> str:
    """Return what an error of a connection is about if it will not pass: certificates, TLS, a proxy that refuses.

    Empty for everything else: a connection that broke off may come back.
    """
    for cause in causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate(cause)
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
            return ""
        if isinstance(cause, ssl.SSLError) and (reason := getattr(cause, "reason", "")):  # aiohttp's has none
            if reason in _NO_TLS:
                return "the server does not speak TLS; does its address begin with http://?"
            return f"no agreement on TLS ({reason})"
        if "Proxy" in type(cause).__name__ and (status := re.search(r"\b40[37]\b", str(cause))):
            return (
                f"the proxy refuses ({status[0]}); is HTTPS_PROXY right, with user and password, or NO_PROXY missing?"
            )
    return ""


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    said = masked(error.verify_message or str(error))
    if error.verify_code in _OTHER_NAMES:
        return f"the server's certificate is for another name ({said})"
    if error.verify_code in (_EXPIRED, _NOT_YET):
        return f"the server's certificate is not valid today ({said})"
    return f"the server's certificate is not trusted ({said}); {HINT}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it; botocore and urllib3 keep the one before in fields of their own."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        yield one
        inner = (getattr(one, "kwargs", None) or {}).get("error") if hasattr(one, "kwargs") else None
        others = (one.__cause__, one.__context__, getattr(one, "reason", None), inner, *one.args)
        waiting += [other for other in others if isinstance(other, BaseException)]
