"""The doctor's question about the data: can it be reached and read from here?"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from caloforge import fetch
from caloforge.errors import InputError
from caloforge.fetch import is_remote
from caloforge.pipelines.doctor.findings import Finding, Site
from caloforge.pods import Pod, in_pod
from caloforge.secrets import without_secrets

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT")
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_OF_STORES = ("s3", "minio")
_ASK = "caloforge doctor within a pod of the namespace, or kubectl run with the image and its env"


def check_data(site: Site) -> Iterator[Finding]:
    """Is there something at the address of the data, and may it be read? It is asked for, not fetched."""
    if site.settings.simulate is not None:
        yield Finding("ok", "no data is needed: the run simulates its showers")
        return
    given = site.settings.data
    addresses = (given,) if isinstance(given, str) else given
    for address in (*addresses, *site.settings.test):
        yield from _check(site, address)


def _check(site: Site, address: str) -> Iterator[Finding]:
    pod = site.settings.pod_of("convert" if site.settings.converts else "preprocess")
    if not address:
        yield Finding(
            "unknown", "the settings name no data; a run must", "data of the settings, or submit --set data=..."
        )
        return
    if not is_remote(address) and not in_pod():
        yield _path(PurePosixPath(address.removeprefix("file://")), pod)
        return
    shown = without_secrets(address) if is_remote(address) else address
    if hidden := _only_inside(address, pod):
        yield Finding("unknown", f"data {shown}: {hidden}", _ASK)
        return
    try:
        with _environment(pod.env):
            found = fetch.look(address)
    except InputError as error:
        text = str(error)
        if not in_pod() and isinstance(error, fetch.Unreachable):
            yield Finding("unknown", f"data {text} (here; perhaps in the cluster)", _ASK)
        elif not in_pod() and (keys := _secret_keys(address, pod)):
            yield Finding("unknown", f"data {text} (here; a step has the keys of Secret {', '.join(keys)})", _ASK)
        else:
            yield Finding("failed", f"data {text}", "data, and pod: {env, secret_env} of the settings")
        return
    size = f", {found.size / 1e6:.1f} MB" if found.size is not None else ""
    yield Finding("ok", f"data {shown}: is there and can be read from here{size}")


def _path(path: PurePosixPath, pod: Pod) -> Finding:
    """Say whether the steps have a path; what is there only they can tell."""
    for claim, mount in pod.claims.items():
        if path.is_relative_to(mount):
            return Finding("unknown", f"data {path}: on claim {claim}, which only the cluster sees", _ASK)
    text = f"data {path}: on no claim of the settings: a step finds it only if the image or the site brings it"
    return Finding("warning", text, f"pod: {{claims: {{NAME: {path.parent}}}}} of the settings, or s3://...")


def _only_inside(address: str, pod: Pod) -> str:
    """Say why only the cluster can tell; empty if this machine can."""
    if in_pod():
        return ""
    host = _host(address, pod)
    if host and not _resolves(host):
        return f"{host} is not known here, perhaps in the cluster"
    if _secret_keys(address, pod) and not all(os.environ.get(name) for name in _KEYS):
        return f"its keys are only in Secret {', '.join(_secret_keys(address, pod))}"
    return ""


def _host(address: str, pod: Pod) -> str:
    """Return the name of the machine that is asked; empty if it is that of a cloud."""
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        return parts.hostname or ""
    if parts.scheme not in _OF_STORES:
        return ""
    for name in _ENDPOINTS:
        if endpoint := pod.env.get(name) or os.environ.get(name):
            return urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").hostname or ""
    return ""


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _secret_keys(address: str, pod: Pod) -> list[str]:
    """Return the Secrets with the keys of the store that the data is in."""
    if urlsplit(address).scheme not in _OF_STORES:
        return []
    return sorted({source.secret for name, source in pod.secret_env.items() if name in _KEYS})


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have the environment variables of a step: they say where its store is."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
