"""Write what kubectl applies before the first run, and examples, all made by the code that uses them."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from caloforge.errors import unknown_name
from caloforge.outputs import put_files
from caloforge.pipelines.manifests.examples import examples
from caloforge.pipelines.manifests.policies import authorization_policy, network_policy
from caloforge.pipelines.manifests.products import PARTS, Part
from caloforge.pipelines.manifests.rights import RIGHTS, Use, role_rules
from caloforge.pipelines.manifests.text import Object, component_of, folder_of, is_manifest, new_object
from caloforge.pipelines.settings import PipelineSettings
from caloforge.result_kinds import MANIFESTS
from caloforge.serving.inference_service import MODEL_FORMAT, serving_runtime

OVERLAYS = ("standalone", "profile", "cern")

NAME = "caloforge"
ROLE = "caloforge-pipeline"
S3_SECRET = "caloforge-s3"
KRB5_SECRET = "caloforge-krb5"
EOS_LABEL: Mapping[str, str] = {"mount-eos": "true"}

STANDALONE_NAMESPACE, STANDALONE_ACCOUNT = "kubeflow", "pipeline-runner"
PROFILE_NAMESPACE, PROFILE_ACCOUNT = "my-profile", "default-editor"

_STORE = "http://seaweedfs.kubeflow:9000"
"""The object store that comes with Kubeflow Pipelines 2.16 and later; until then it was ``minio-service``."""

_POLICY_NOTE = """\
Steps, notebooks, pods with the label caloforge/client: 'true', gateways and monitoring reach a server, which
# authenticates nobody. Its pod reaches names, object stores and Istio."""

_NO_SIDECAR_NOTE = """\
Exactly what clients ask for. Pods of pipelines have no sidecar, so that Istio does not know who asks: without
# the second source the step that deploys gets 403 from the server that it has just started."""

_USES: Mapping[Part, frozenset[Use]] = {
    "kserve": frozenset({"deploy"}),
    "katib": frozenset({"tune"}),
    "trainer": frozenset({"distribute", "search"}),
    "istio": frozenset(),
}
"""What each product is for: without it the Role needs no verbs for that."""


def write_manifests(
    output: Path,
    *,
    settings: PipelineSettings | None = None,
    overlay: str | None = None,
    without: Iterable[str] = (),
    overwrite: bool = False,
) -> None:
    """Write the manifests into a folder; files of other names stay as they are.

    Args:
        output: folder, see ``manifests/README.md``.
        settings: image, namespace and service account come from there.
        overlay: write only this one, with what it needs.
        without: products that the cluster does not have, of :data:`PARTS`.
        overwrite: replace manifests of ours that were changed since, too.

    Raises:
        InputError: there is no such overlay or product, the folder cannot be written, or holds a file of the
            same name that is not as it was written.
    """
    if overlay is not None and overlay not in OVERLAYS:
        raise unknown_name("overlay", overlay, OVERLAYS)
    left_out = parts(without)
    texts = manifests(settings or PipelineSettings(), overlay=overlay, without=left_out)
    with put_files(output, MANIFESTS, known=is_manifest if overwrite else lambda _: False) as folder:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")


def parts(names: Iterable[str]) -> frozenset[Part]:
    """Return the products of these names.

    Raises:
        InputError: one is unknown.
    """
    names = frozenset(names)
    if unknown := sorted(names - set(PARTS)):
        raise unknown_name("product", unknown[0], PARTS)
    return frozenset(part for part in PARTS if part in names)


def manifests(
    settings: PipelineSettings, *, overlay: str | None = None, without: Collection[Part] = ()
) -> dict[str, str]:
    """Return the content of each file by its path."""
    chosen = OVERLAYS if overlay is None else ("profile", "cern") if overlay == "cern" else (overlay,)
    folders = {
        "base": _base(),
        "rbac": _rbac(without),
        "secrets": _secrets(settings),
        **examples(settings, name=NAME, without=without),
        **_components(settings, without),
    }

    def named(depth: int, *components: str) -> Object:
        """Return the part of an overlay that names components, of those that are written."""
        written = [f"{'../' * depth}components/{name}" for name in components if f"components/{name}" in folders]
        return {"components": written} if written else {}

    # A service made by hand needs the runtime, ours only if the settings say so.
    servers = ("kserve", "runtime") if settings.service.runtime == MODEL_FORMAT else ("kserve",)
    namespace = settings.namespace or PROFILE_NAMESPACE
    account = settings.service_account or PROFILE_ACCOUNT
    if "standalone" in chosen:
        resources = {"namespace": STANDALONE_NAMESPACE, "resources": ["../../base", "../../rbac"]}
        folders["overlays/standalone"] = folder_of({}, {**resources, **named(2, "katib", *servers)})
    if "profile" in chosen:
        resources = {"namespace": namespace, "resources": ["../../base"]}
        folders["overlays/profile"] = folder_of({}, {**resources, **named(2, *servers, "istio")})
        admin = {**_profile_admin(namespace, account), **named(3, "katib")}
        folders["overlays/profile/admin"] = folder_of({}, admin)
    if "cern" in chosen:
        folders["overlays/cern"] = _cern(namespace)
        folders["overlays/cern/secrets"] = _cern_secrets()
    return {f"{folder}/{name}": text for folder, contents in folders.items() for name, text in contents.items()}


def _base() -> dict[str, str]:
    account = {
        **new_object("v1", "ServiceAccount", NAME),
        "secrets": [{"name": S3_SECRET}],
        "automountServiceAccountToken": False,  # neither talks to the cluster
    }
    return folder_of(
        {
            "serviceaccount.yaml": ("Servers and trials that read from the object store run as this.", account),
            "persistentvolumeclaim.yaml": (
                "Showers, checkpoints and bundles. Pods on several nodes need ReadWriteMany and a storage class for it.",
                {
                    **new_object("v1", "PersistentVolumeClaim", NAME),
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}},
                },
            ),
        }
    )


def _components(settings: PipelineSettings, without: Collection[Part]) -> dict[str, dict[str, str]]:
    """Return the folders of what an overlay needs for each product; Trainer needs its verbs in the Role only."""
    # kustomize gives a Namespace the namespace of the overlay as its name.
    namespace = _namespace(STANDALONE_NAMESPACE)
    files: dict[str, tuple[Part, str, str, Object]] = {
        "katib": (
            "katib",
            "namespace.yaml",
            "Katib puts its metrics collector into pods of namespaces with this label; profiles have it.",
            namespace,
        ),
        "kserve": (
            "kserve",
            "networkpolicy.yaml",
            _POLICY_NOTE,
            network_policy(_store(settings)),
        ),
        "runtime": (
            "kserve",
            "servingruntime.yaml",
            "How KServe runs any bundle, for services made by hand; ours hold their image themselves.",
            serving_runtime(MODEL_FORMAT, settings.served()),
        ),
        "istio": (
            "istio",
            "authorizationpolicy.yaml",
            _NO_SIDECAR_NOTE,
            authorization_policy(settings.namespace or PROFILE_NAMESPACE),
        ),
    }
    return {
        f"components/{name}": component_of({file: (note, content)})
        for name, (part, file, note, content) in files.items()
        if part not in without
    }


def _rbac(without: Collection[Part]) -> dict[str, str]:
    idle = frozenset[Use]().union(*(_USES[part] for part in without))
    rights = [right for right in RIGHTS if set(right.uses) - idle]
    role = {**new_object("rbac.authorization.k8s.io/v1", "Role", ROLE), "rules": role_rules(rights)}
    binding = {
        **new_object("rbac.authorization.k8s.io/v1", "RoleBinding", ROLE),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE},
        "subjects": [_account(STANDALONE_ACCOUNT, STANDALONE_NAMESPACE)],
    }
    return folder_of(
        {
            "role.yaml": ("What the steps do, and nothing else.", role),
            "rolebinding.yaml": ("The account of the steps without multi-user isolation.", binding),
        },
        {"namespace": STANDALONE_NAMESPACE},
    )


def _secrets(settings: PipelineSettings) -> dict[str, str]:
    # What KServe fetches with is the store that the steps write to.
    address = urlsplit(_store(settings))
    annotations = {
        "serving.kserve.io/s3-endpoint": address.netloc,
        "serving.kserve.io/s3-usehttps": "1" if address.scheme == "https" else "0",
        "serving.kserve.io/s3-region": "us-east-1",
        "serving.kserve.io/s3-useanoncredential": "false",
    }
    secret = {
        **new_object("v1", "Secret", S3_SECRET, annotations=annotations),
        "type": "Opaque",
        "stringData": {"AWS_ACCESS_KEY_ID": "change-me", "AWS_SECRET_ACCESS_KEY": "change-me"},
    }
    note = "A template: change it, apply it once, keep the keys out of git. In no other kustomization on purpose."
    return folder_of({"s3-secret.yaml": (note, secret)})


def _store(settings: PipelineSettings) -> str:
    return settings.pod.env.get("AWS_ENDPOINT_URL", _STORE)


def _profile_admin(namespace: str, account: str) -> Object:
    patch = [{"op": "replace", "path": "/subjects/0", "value": _account(account, namespace)}]
    return {
        "namespace": namespace,
        "resources": ["../../../rbac"],
        "patches": [{"target": {"kind": "RoleBinding", "name": ROLE}, "patch": yaml.safe_dump(patch, sort_keys=False)}],
    }


def _cern(namespace: str) -> dict[str, str]:
    mounting = {
        **new_object("kubeflow.org/v1alpha1", "PodDefault", "caloforge-eos"),
        "spec": {
            "desc": "EOS with a Kerberos ticket",
            "selector": {"matchLabels": dict(EOS_LABEL)},
            "env": [{"name": "KRB5CCNAME", "value": "FILE:/secrets/krb5/krb5cc"}],
            "volumes": [
                {"name": "eos", "hostPath": {"path": "/var/eos"}},
                {"name": "krb5", "secret": {"secretName": KRB5_SECRET}},
            ],
            "volumeMounts": [
                {"name": "eos", "mountPath": "/eos", "mountPropagation": "HostToContainer"},
                {"name": "krb5", "mountPath": "/secrets/krb5", "readOnly": True},
            ],
        },
    }
    label = ", ".join(f"{key}: {value!r}" for key, value in EOS_LABEL.items())
    note = f"Pods with the label {label} (pod.labels of the settings) find EOS under /eos."
    return folder_of({"poddefault.yaml": (note, mounting)}, {"namespace": namespace, "resources": ["../profile"]})


def _cern_secrets() -> dict[str, str]:
    secret = {
        **new_object("v1", "Secret", KRB5_SECRET),
        "type": "Opaque",
        "stringData": {"krb5cc": "change-me"},
    }
    note = (
        "A template; better: kinit -c krb5cc && kubectl create secret generic caloforge-krb5 --from-file=krb5cc\n"
        "# A ticket lasts a day and is renewable for five: replace the Secret before it ends."
    )
    return folder_of({"krb5-secret.yaml": (note, secret)})


def _namespace(name: str) -> Object:
    labels = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _account(name: str, namespace: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
