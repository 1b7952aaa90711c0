"""The doctor's question to the registry of the image."""

import re
from collections.abc import Iterator

import httpx

from caloforge.network import web_client
from caloforge.pipelines.doctor.findings import Finding, Site

DOCKER_HUB = "registry-1.docker.io"

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_LOCAL = ("localhost", "127.0.0.1")


def check_image(site: Site) -> Iterator[Finding]:
    """Is the image of the steps, and that of the server, in its registry?"""
    for image in dict.fromkeys((site.settings.image, site.settings.served().image)):
        yield _image(image, has_password=bool(site.settings.pod.image_pull_secrets))


def _image(image: str, *, has_password: bool) -> Finding:
    host, path, reference = parse_image(image)
    look = f"docker manifest inspect {image}"
    scheme = "http" if host.partition(":")[0] in _LOCAL else "https"
    address = f"{scheme}://{host}/v2/{path}/manifests/{reference}"
    try:
        with web_client(address, timeout=10, follow_redirects=True, trust_env=scheme == "https") as client:
            response = client.head(address, headers={"Accept": _MANIFESTS})
            if response.status_code == 401 and (token := _anonymous_token(client, response, path)):
                headers = {"Accept": _MANIFESTS, "Authorization": f"Bearer {token}"}
                response = client.head(address, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding("unknown", f"{image}: registry {host} cannot be reached from here ({error})", look)
    status = response.status_code
    if response.is_success:
        return Finding("ok", f"{image} is in its registry")
    if status == 404:
        push = f"docker build -f docker/Dockerfile -t {image} . && docker push {image}"
        return Finding("failed", f"{image} is not in its registry", push)
    if status in (401, 403):
        hint = "" if has_password else "; nodes need a password then: image_pull_secrets of the settings"
        return Finding("unknown", f"{image}: not there, or not for everybody{hint}", look)
    return Finding("unknown", f"{image}: registry {host} answers {status}", look)


def parse_image(image: str) -> tuple[str, str, str]:
    """Return registry, path and tag or digest of an image, as Docker reads its name."""
    name, _, digest = image.partition("@")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = first, rest
    else:
        host, path = DOCKER_HUB, name if slash else f"library/{name}"
    path, _, tag = path.partition(":")
    return host, path, digest or tag or "latest"


def _anonymous_token(client: httpx.Client, response: httpx.Response, path: str) -> str:
    """Return the token that a registry gives to everybody, as its answer says where; empty if it gives none."""
    asked = dict(re.findall(r'(\w+)="([^"]*)"', response.headers.get("WWW-Authenticate", "")))
    realm = asked.pop("realm", "")
    if not realm.startswith(("https://", *(f"http://{name}" for name in _LOCAL))):
        return ""
    answer = client.get(realm, params={"scope": f"repository:{path}:pull", **asked})
    try:
        content = answer.json()
        return str(content.get("token") or content.get("access_token") or "") if answer.is_success else ""
    except (ValueError, AttributeError):
        return ""
