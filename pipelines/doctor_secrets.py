"""The doctor's questions about Secrets: their entries are asked for, their values never shown."""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any

from caloforge.cluster import Refused
from caloforge.pipelines.doctor_image import DOCKER_HUB, parse_image
from caloforge.pipelines.findings import Finding, Site

_PULL_TYPE, _PULL_KEY = "kubernetes.io/dockerconfigjson", ".dockerconfigjson"


def check_secrets(site: Site) -> Iterator[Finding]:
    """Are the Secrets of the settings there, with their keys, and the registry's password?"""
    needed: dict[str, set[str]] = {}
    pulling: dict[str, set[str]] = {}
    for name, pod in site.pods().items():
        for source in pod.secret_env.values():
            needed.setdefault(source.secret, set()).add(source.key)
        for secret in pod.secret_volumes:
            needed.setdefault(secret, set())
        image = site.settings.served().image if name == "server" else site.settings.image
        for secret in pod.image_pull_secrets:
            pulling.setdefault(secret, set()).add(parse_image(image)[0])
    if webhook := site.settings.webhook:
        needed.setdefault(webhook.secret, set()).add(webhook.key)
    for secret, keys in sorted(needed.items()):
        yield _secret(site, secret, keys)
    # A pod finds the password of an image in any of its Secrets.
    unknown = frozenset[str]().union(*pulling.values())
    for secret, hosts in sorted(pulling.items()):
        finding, found = _pull_secret(site, secret, hosts)
        unknown -= found if finding.state == "ok" else hosts
        yield finding
    for host in sorted(unknown):
        yield Finding(
            "warning", f"no image pull secret has a password for {host}", _make_pull_secret(site, "NAME", host)
        )


def _secret(site: Site, name: str, keys: Iterable[str]) -> Finding:
    literals = " ".join(f"--from-literal={key}=..." for key in sorted(keys)) or "..."
    make = f"kubectl create secret generic {name} --namespace {site.namespace} {literals}"
    content = _read(site, name, make)
    if isinstance(content, Finding):
        return content
    if missing := sorted(set(keys) - set(content.get("data") or {})):
        return Finding("failed", f"Secret {name} has no entry {', '.join(missing)}", make)
    return Finding("ok", f"Secret {name}")


def _pull_secret(site: Site, name: str, hosts: set[str]) -> tuple[Finding, frozenset[str]]:
    """Return what is to be said of a Secret with registries' passwords, and the registries that it knows."""
    make = _make_pull_secret(site, name, min(hosts))
    content = _read(site, name, make)
    if isinstance(content, Finding):
        return content, frozenset()
    if content.get("type") != _PULL_TYPE:
        text = f"image pull secret {name} is of type {content.get('type')}: nodes look into {_PULL_TYPE} only"
        return Finding(
            "failed", text, f"kubectl delete secret {name} --namespace {site.namespace}; {make}"
        ), frozenset()
    try:
        registries = json.loads(base64.b64decode((content.get("data") or {})[_PULL_KEY]))["auths"]
    except (KeyError, ValueError, TypeError):
        return Finding(
            "failed", f"image pull secret {name} has no entry {_PULL_KEY} that can be read", make
        ), frozenset()
    known = frozenset(_host(registry) for registry in registries)
    return Finding("ok", f"image pull secret {name}, for {', '.join(sorted(known)) or 'no registry'}"), known


def _read(site: Site, name: str, make: str) -> Any:
    """Return a Secret, or the finding that it cannot be read."""
    try:
        # Not remembered: values have no business here.
        return site.asked.request("GET", f"/api/v1/namespaces/{site.namespace}/secrets/{name}")
    except Refused as error:
        if error.status == 404:
            return Finding("failed", f"Secret {name} is not in namespace {site.namespace}", make)
        show = f"kubectl describe secret {name} --namespace {site.namespace}"
        return Finding("unknown", f"Secret {name} may not be seen", show)


def _host(registry: str) -> str:
    """Return the registry that an entry of Docker's configuration is for, as names of images have it."""
    host = registry.partition("://")[2] or registry
    host = host.partition("/")[0]
    return DOCKER_HUB if host in ("index.docker.io", "docker.io") else host


def _make_pull_secret(site: Site, name: str, host: str) -> str:
    return (
        f"kubectl create secret docker-registry {name} --namespace {site.namespace} --docker-server={host} "
        "--docker-username=... --docker-password=...; then image_pull_secrets of the settings"
    )
