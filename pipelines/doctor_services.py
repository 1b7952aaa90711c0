"""The doctor's questions to Kubeflow Pipelines and to the registry of the image."""

import os
import re
from collections.abc import Iterator
from functools import partial

import httpx

from caloforge.errors import InputError
from caloforge.fetch import without_secrets
from caloforge.pipelines.findings import Finding, Site
from caloforge.pipelines.kubeflow import HOST, IN_CLUSTER, Kubeflow, KubeflowError, connect
from caloforge.pods import in_pod

OLDEST = (2, 14)
"""Oldest Kubeflow Pipelines that collects the artifacts of a loop."""

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
        with httpx.Client(timeout=10, follow_redirects=True, trust_env=scheme == "https") as client:
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
        host, path = "registry-1.docker.io", name if slash else f"library/{name}"
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


def check_pipelines(site: Site) -> Iterator[Finding]:
    """Does Kubeflow Pipelines answer, let us in, and have the version that the pipeline needs?"""
    host = site.host or os.environ.get(HOST)
    if not host and not in_pod():
        text = f"Kubeflow Pipelines: no address is known; give --host or set {HOST}"
        forward = "kubectl port-forward --namespace kubeflow service/ml-pipeline-ui 8080:80"
        yield Finding("unknown", text, f"{forward}, then --host http://localhost:8080")
        return
    namespace = site.settings.namespace or (site.cluster.namespace if site.cluster is not None else None)
    try:
        found = connect(host, namespace=namespace, patience=0.0)
        healthz = found.ask("connect", found.client.get_kfp_healthz)
    except (InputError, KubeflowError) as error:
        yield Finding("failed", f"Kubeflow Pipelines: {error}", f"see docs/submit.md; curl -i {_shown(host)}")
        return
    version = _version(found)
    numbers = re.match(r"(\d+)\.(\d+)", version)
    mode = "a namespace for each user" if healthz.multi_user else "no isolation of users"
    text = f"Kubeflow Pipelines {version} at {found.host}, {mode}"
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST:
        yield Finding("failed", f"{text}: too old to collect the artifacts of a loop", "upgrade to 2.14 or later")
    else:
        yield Finding("ok", text)


def _version(found: Kubeflow) -> str:
    """Return the version of the server, which only the older API tells."""
    api = found.client._healthz_api.api_client
    call = partial(
        api.call_api, "/apis/v1beta1/healthz", "GET", header_params={"Accept": "application/json"},
        auth_settings=["Bearer"], response_type="object", _return_http_data_only=True,
    )  # fmt: skip
    try:
        answer = found.ask("connect", call)
    except (InputError, KubeflowError):
        return "of unknown version"
    return str(answer.get("tag_name") or "of unknown version")


def _shown(host: str | None) -> str:
    return f"{without_secrets(host or IN_CLUSTER).rstrip('/')}/apis/v2beta1/healthz"
