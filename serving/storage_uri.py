"""Where KServe finds a bundle: its storageUri, made from the address of an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from caloforge.errors import InputError
from caloforge.secrets import secret_in, without_secrets

SCHEMES = ("s3", "gs", "pvc", "hf", "oci", "hdfs", "webhdfs", "https", "http")
"""What KServe's storage initializer reads (its documentation has a few more, which hold no folders)."""


def storage_uri(address: str, claims: Mapping[str, str]) -> str:
    """Return the address at which KServe finds a folder.

    Args:
        address: of an artifact of Kubeflow Pipelines (``minio://``, ``s3://``, ``gs://``), anything else
            that KServe reads, or a path on a mounted claim.
        claims: names of persistent volume claims to the paths where they are mounted here.

    Raises:
        InputError: KServe cannot read there.
    """
    if kind := secret_in(address):
        text = f"{without_secrets(address)}: {kind}, which the service would show; KServe has the keys of a store from "
        raise InputError(f"{text}the Secrets of its service_account")
    if address.startswith("/"):
        return _on_claim(address, claims)
    parts = urlsplit(address)
    if parts.scheme == "minio":
        parts = parts._replace(scheme="s3")  # what Kubeflow calls its object store, which speaks S3
    if parts.scheme not in SCHEMES:
        text = (
            f"{address or 'no address'}: KServe cannot read there; give an address that begins with "
            f"{', '.join(f'{scheme}://' for scheme in ('minio', *SCHEMES))}, or a path on a claim of the settings"
        )
        raise InputError(text)
    if not parts.netloc:
        raise InputError(f"{address}: has no bucket, claim or host")
    if parts.scheme in ("s3", "gs"):
        # Kubeflow appends region and endpoint; KServe has them from the Secret, and would take them for the key.
        parts = parts._replace(query="")
    return parts.geturl().rstrip("/")


def _on_claim(address: str, claims: Mapping[str, str]) -> str:
    path = PurePosixPath(address)
    mounts = sorted(claims.items(), key=lambda item: -len(item[1]))  # the innermost first
    for claim, mount in mounts:
        if path.is_relative_to(mount):
            return f"pvc://{claim}/{path.relative_to(mount)}".removesuffix("/.")
    known = ", ".join(f"{claim} at {mount}" for claim, mount in claims.items()) or "none"
    text = (
        f"{address}: a path of this machine, which a cluster cannot read; give the address of the bundle "
        f"(s3://..., pvc://CLAIM/PATH), or a path on one of the settings' claims ({known})"
    )
    raise InputError(text)
