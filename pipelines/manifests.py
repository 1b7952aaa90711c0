"""Write what kubectl applies before the first run, and examples, all made by the code that uses them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from caloforge.errors import unknown_name
from caloforge.files import atomic_file
from caloforge.pipelines.rights import role_rules
from caloforge.pipelines.settings import PipelineSettings
from caloforge.serving.inference_service import LABELS as SERVER_LABELS
from caloforge.serving.inference_service import MODEL_FORMAT, inference_service, serving_runtime
from caloforge.tuning.experiment import SCRATCH, TrialPod, build_experiment
from caloforge.tuning.objective import objective_names
from caloforge.tuning.space import load_space

Object = dict[str, Any]

OVERLAYS = ("standalone", "profile", "cern")

NAME = "caloforge"
LABELS: Mapping[str, str] = {"app.kubernetes.io/name": NAME}
ROLE = "caloforge-pipeline"
S3_SECRET = "caloforge-s3"
KRB5_SECRET = "caloforge-krb5"
EOS_LABEL: Mapping[str, str] = {"mount-eos": "true"}
DATA = "/data"
"""Where the examples mount the claim."""

STANDALONE_NAMESPACE, STANDALONE_ACCOUNT = "kubeflow", "pipeline-runner"
PROFILE_NAMESPACE, PROFILE_ACCOUNT = "my-profile", "default-editor"

_GATEWAYS = ("istio-system", "knative-serving", "kourier-system", "envoy-gateway-system", "kubeflow", "monitoring")

_HEAD = "# Written by `caloforge manifests`; a test compares.\n"


def write_manifests(output: Path, *, settings: PipelineSettings | None = None, overlay: str | None = None) -> None:
    """Write the manifests into a folder; files of other names stay as they are.

    Args:
        output: folder, see ``manifests/README.md``.
        settings: image, namespace and service account come from there.
        overlay: write only this one, with what it needs.

    Raises:
        InputError: there is no such overlay, or the folder cannot be written.
    """
    if overlay is not None and overlay not in OVERLAYS:
        raise unknown_name("overlay", overlay, OVERLAYS)
    for path, text in manifests(settings or PipelineSettings(), overlay=overlay).items():
        with atomic_file(output / path) as temporary:
            temporary.write_text(text)


def manifests(settings: PipelineSettings, *, overlay: str | None = None) -> dict[str, str]:
    """Return the content of each file by its path."""
    chosen = OVERLAYS if overlay is None else ("profile", "cern") if overlay == "cern" else (overlay,)
    folders = {"base": _base(settings), "rbac": _rbac(), "secrets": _secrets(), "examples": _examples(settings)}
    namespace = settings.namespace or PROFILE_NAMESPACE
    account = settings.service_account or PROFILE_ACCOUNT
    if "standalone" in chosen:
        folders["overlays/standalone"] = _standalone()
    if "profile" in chosen:
        folders["overlays/profile"] = _profile(namespace)
        folders["overlays/profile/admin"] = _profile_admin(namespace, account)
    if "cern" in chosen:
        folders["overlays/cern"] = _cern(namespace)
        folders["overlays/cern/secrets"] = _cern_secrets()
    return {f"{folder}/{name}": text for folder, contents in folders.items() for name, text in contents.items()}


def _base(settings: PipelineSettings) -> dict[str, str]:
    service = settings.served()
    account = {
        **_object("v1", "ServiceAccount", NAME),
        "secrets": [{"name": S3_SECRET}],
    }
    return _folder(
        {
            "serviceaccount.yaml": ("Servers and trials that read from the object store run as this.", account),
            "persistentvolumeclaim.yaml": (
                "Showers, checkpoints and bundles. Pods on several nodes need ReadWriteMany and a storage class for it.",
                {
                    **_object("v1", "PersistentVolumeClaim", NAME),
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}},
                },
            ),
            "servingruntime.yaml": (
                "How KServe runs any bundle, for services made by hand; ours hold their image themselves.",
                serving_runtime(MODEL_FORMAT, service),
            ),
            "networkpolicy.yaml": (
                "Only this namespace, gateways, activator and monitoring reach a server, which authenticates nobody.",
                _network_policy(),
            ),
        }
    )


def _rbac() -> dict[str, str]:
    role = {**_object("rbac.authorization.k8s.io/v1", "Role", ROLE), "rules": role_rules()}
    binding = {
        **_object("rbac.authorization.k8s.io/v1", "RoleBinding", ROLE),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ROLE},
        "subjects": [_account(STANDALONE_ACCOUNT, STANDALONE_NAMESPACE)],
    }
    return _folder(
        {
            "role.yaml": ("What the steps do, and nothing else.", role),
            "rolebinding.yaml": ("The account of the steps without multi-user isolation.", binding),
        },
        {"namespace": STANDALONE_NAMESPACE},
    )


def _secrets() -> dict[str, str]:
    annotations = {
        "serving.kserve.io/s3-endpoint": "minio-service.kubeflow:9000",
        "serving.kserve.io/s3-usehttps": "0",
        "serving.kserve.io/s3-region": "us-east-1",
        "serving.kserve.io/s3-useanoncredential": "false",
    }
    secret = {
        **_object("v1", "Secret", S3_SECRET, annotations=annotations),
        "type": "Opaque",
        "stringData": {"AWS_ACCESS_KEY_ID": "change-me", "AWS_SECRET_ACCESS_KEY": "change-me"},
    }
    note = "A template: change it, apply it once, keep the keys out of git. In no other kustomization on purpose."
    return _folder({"s3-secret.yaml": (note, secret)})


def _examples(settings: PipelineSettings) -> dict[str, str]:
    service = settings.served().model_copy(update={"namespace": "", "service_account": NAME})
    pod = TrialPod(image=settings.image, claims={NAME: DATA}, service_account=NAME)
    objective, *additional = objective_names()
    experiment = build_experiment(
        load_space("vae", "demo"),
        name="tune-vae",
        objective=objective,
        additional=additional,
        algorithm="tpe",
        seed=0,
        trials=20,
        parallel=2,
        max_failed=5,
        command=[
            *("python", "-P", "-m", "caloforge", "trial", "--family=vae", "--preset=demo", "--seed=0"),
            *("--max-minutes=10", f"--data={DATA}/showers.hdf5"),
        ],
        output=SCRATCH,
        pod=pod,
    )
    quota = {
        **_object("v1", "ResourceQuota", NAME),
        "spec": {
            "hard": {
                "requests.cpu": "64",
                "requests.memory": "256Gi",
                "requests.nvidia.com/gpu": "4",
                "persistentvolumeclaims": "10",
                "count/experiments.kubeflow.org": "5",
                "count/inferenceservices.serving.kserve.io": "5",
            }
        },
    }
    return _folder(
        {
            "experiment.yaml": ("What `caloforge tune --backend katib` creates; it starts when applied.", experiment),
            "inferenceservice.yaml": (
                "What `caloforge deploy --backend kserve` creates: put the bundle's address into STORAGE_URI.",
                inference_service(NAME, f"pvc://{NAME}/bundle", service),
            ),
            "resourcequota.yaml": ("Bounds what a namespace takes; pods must state what they need, ours do.", quota),
        }
    )


def _standalone() -> dict[str, str]:
    namespace = _namespace(STANDALONE_NAMESPACE)
    return _folder(
        {"namespace.yaml": ("Katib puts its metrics collector into pods of namespaces with this label.", namespace)},
        {"namespace": STANDALONE_NAMESPACE, "resources": ["../../base", "../../rbac"]},
    )


def _profile(namespace: str) -> dict[str, str]:
    policy = {
        **_object("security.istio.io/v1beta1", "AuthorizationPolicy", NAME),
        "spec": {
            "selector": {"matchLabels": dict(SERVER_LABELS)},
            "action": "ALLOW",
            "rules": [{"to": [{"operation": {"paths": ["/v1/models/*", "/v2/*"]}}]}],
        },
    }
    note = (
        "Pods of pipelines have no sidecar, so that Istio does not know who asks. Without this the step that\n"
        "# deploys gets 403 from the server that it has just started. The NetworkPolicy keeps others out."
    )
    return _folder({"authorizationpolicy.yaml": (note, policy)}, {"namespace": namespace, "resources": ["../../base"]})


def _profile_admin(namespace: str, account: str) -> dict[str, str]:
    patch = [{"op": "replace", "path": "/subjects/0", "value": _account(account, namespace)}]
    kustomization = {
        "namespace": namespace,
        "resources": ["../../../rbac"],
        "patches": [{"target": {"kind": "RoleBinding", "name": ROLE}, "patch": yaml.safe_dump(patch, sort_keys=False)}],
    }
    note = "Profiles have the label; where it was lost, an administrator gives it back."
    return _folder({"namespace.yaml": (note, _namespace(namespace))}, kustomization)


def _cern(namespace: str) -> dict[str, str]:
    mounting = {
        **_object("kubeflow.org/v1alpha1", "PodDefault", "caloforge-eos"),
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
    return _folder({"poddefault.yaml": (note, mounting)}, {"namespace": namespace, "resources": ["../profile"]})


def _cern_secrets() -> dict[str, str]:
    secret = {
        **_object("v1", "Secret", KRB5_SECRET),
        "type": "Opaque",
        "stringData": {"krb5cc": "change-me"},
    }
    note = (
        "A template; better: kinit -c krb5cc && kubectl create secret generic caloforge-krb5 --from-file=krb5cc\n"
        "# A ticket lasts a day and is renewable for five: replace the Secret before it ends."
    )
    return _folder({"krb5-secret.yaml": (note, secret)})


def _network_policy() -> Object:
    gateways = [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(_GATEWAYS)}]
    return {
        **_object("networking.k8s.io/v1", "NetworkPolicy", "caloforge-server"),
        "spec": {
            "podSelector": {"matchLabels": dict(SERVER_LABELS)},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}, {"namespaceSelector": {"matchExpressions": gateways}}]}],
        },
    }


def _namespace(name: str) -> Object:
    labels = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _account(name: str, namespace: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def _object(api_version: str, kind: str, name: str, *, annotations: Mapping[str, str] | None = None) -> Object:
    metadata: Object = {"name": name, "labels": dict(LABELS)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _folder(files: Mapping[str, tuple[str, Object]], kustomization: Object | None = None) -> dict[str, str]:
    """Return the texts of the files (a note and an object each) and of the kustomization that lists them."""
    texts = {name: f"{_HEAD}# {note}\n{_yaml(content)}" for name, (note, content) in files.items()}
    extra = dict(kustomization or {})
    listed = [*extra.pop("resources", []), *files]
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    texts["kustomization.yaml"] = _HEAD + _yaml({**head, **extra, "resources": listed})
    return texts


class _Dumper(yaml.SafeDumper):
    """Writes nothing as a reference to something before, and texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def _yaml(content: Object) -> str:
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=110)
