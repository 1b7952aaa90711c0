"""The doctor's questions about what may be done, by us and by the accounts that the settings name."""

from collections.abc import Iterator

from caloforge.cluster import Kind, Refused
from caloforge.pipelines.findings import Finding, Site
from caloforge.pipelines.products import served
from caloforge.pipelines.rights import PRODUCTS, RIGHTS, USES, Right


def check_rights(site: Site) -> Iterator[Finding]:
    """May we do what the steps do?"""
    yield from _reviewed(site, None, "you")


def check_account(site: Site) -> Iterator[Finding]:
    """Are the accounts of the steps and of the server there, and may that of the steps do what they do?"""
    account = site.account
    server = site.settings.service.service_account
    if "deploy" in site.wanted and server and server != account:
        yield from _account(site, server, "the server runs", "service: {service_account} of the settings names another")
    missing = list(_account(site, account, "the steps run", "service_account of the settings names another"))
    yield from missing
    if missing:
        return
    user = f"system:serviceaccount:{site.namespace}:{account}"
    try:
        yield from _reviewed(site, user, account)
    except Refused as error:
        if error.status not in (403, 404):
            raise
        text = f"what {account} may do: you may not ask for others"
        can = f"kubectl auth can-i --list --as={user} --namespace {site.namespace}"
        yield Finding("unknown", text, f"{can}   # an administrator, or caloforge doctor within a pod")


def _account(site: Site, account: str, who: str, setting: str) -> Iterator[Finding]:
    """Yield what is wrong with an account; nothing if it is there, or may not be seen."""
    try:
        site.of_namespace(f"serviceaccounts/{account}")
    except Refused as error:
        if error.status == 404:
            text = f"ServiceAccount {account}, as which {who}, is not in namespace {site.namespace}"
            yield Finding(
                "failed", text, f"kubectl get serviceaccount {account} --namespace {site.namespace}; {setting}"
            )


def _reviewed(site: Site, user: str | None, who: str) -> Iterator[Finding]:
    """Ask for each verb of the table; what is not installed cannot be granted in a way that matters."""
    installed = [use for use, kinds in PRODUCTS.items() if all(_is_there(site, kind) for kind in kinds)]
    for use in installed:
        rights = [right for right in RIGHTS if use in right.uses]
        denied = [(right, verb) for right in rights for verb in right.verbs if not _may(site, right, verb, user)]
        if denied:
            listed = ", ".join(f"{verb} {_resource(right)}" for right, verb in denied)
            text = f"{who} may not {listed} in {site.namespace}, to {USES[use]}"
            yield Finding(site.missing(use), text, f"kubectl apply -k {_overlay(site)}   # an administrator")
        else:
            yield Finding("ok", f"{who} may {USES[use]} ({sum(len(right.verbs) for right in rights)} verbs)")


def _is_there(site: Site, kind: Kind) -> bool:
    return kind.plural in served(site.get, kind.group).get(kind.version, set())


def _overlay(site: Site) -> str:
    return f"manifests/overlays/{'profile/admin' if site.is_profile else 'standalone'}"


def _resource(right: Right) -> str:
    return f"{right.resource}.{right.group}" if right.group else right.resource


def _may(site: Site, right: Right, verb: str, user: str | None) -> bool:
    resource, _, part = right.resource.partition("/")
    attributes = {
        "namespace": site.namespace,
        "verb": verb,
        "group": right.group,
        "resource": resource,
        "subresource": part,
    }
    kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {"resourceAttributes": attributes, **({"user": user} if user else {})},
    }
    answer = site.asked.request("POST", f"/apis/authorization.k8s.io/v1/{kind.lower()}s", body=body)
    return bool(answer["status"].get("allowed"))
