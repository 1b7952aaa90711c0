"""Examples of what the steps make, and a quota with what it needs."""

from collections.abc import Collection

from caloforge.pipelines.manifest_text import Object, folder_of, new_object
from caloforge.pipelines.products import Part
from caloforge.pipelines.settings import PipelineSettings
from caloforge.serving.inference_service import inference_service
from caloforge.tuning.experiment import SCRATCH, TrialPod, build_experiment
from caloforge.tuning.objective import objective_names
from caloforge.tuning.space import load_space

DATA = "/data"
"""Where the examples mount the claim."""

QUOTA_FOLDER = "examples/quota"

DEFAULT_REQUESTS = {"cpu": "20m", "memory": "64Mi"}
"""What a container gets that asks for nothing: Argo's, in every pod of a run."""


def examples(settings: PipelineSettings, *, name: str, without: Collection[Part] = ()) -> dict[str, dict[str, str]]:
    """Return the files of each folder.

    Args:
        settings: image and service come from there.
        name: of the objects, and of the claim and the account that they use.
        without: products that the cluster does not have.
    """
    files = {}
    if "katib" not in without:
        files["experiment.yaml"] = (
            "What `caloforge tune --backend katib` creates; it starts when applied.",
            _experiment(settings, name),
        )
    if "kserve" not in without:
        service = settings.served().model_copy(update={"namespace": "", "service_account": name})
        files["inferenceservice.yaml"] = (
            "What `caloforge deploy --backend kserve` creates: put the bundle's address into STORAGE_URI.",
            inference_service(name, f"pvc://{name}/bundle", service),
        )
    quota = {
        "limitrange.yaml": (
            "Containers that ask for nothing get this; under a quota on requests no pipeline starts without it.",
            _limit_range(name),
        ),
        "resourcequota.yaml": (
            "Bounds what a namespace takes. Never without the LimitRange: Argo's containers ask for nothing.",
            _quota(name, without),
        ),
    }
    return {"examples": folder_of(files, {"resources": ["quota"]}), QUOTA_FOLDER: folder_of(quota)}


def _experiment(settings: PipelineSettings, name: str) -> Object:
    pod = TrialPod(image=settings.image, claims={name: DATA}, service_account=name)
    objective, *additional = objective_names()
    return build_experiment(
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


def _limit_range(name: str) -> Object:
    limit = {"type": "Container", "defaultRequest": dict(DEFAULT_REQUESTS)}
    return {**new_object("v1", "LimitRange", name), "spec": {"limits": [limit]}}


def _quota(name: str, without: Collection[Part]) -> Object:
    hard = {
        "requests.cpu": "64",
        "requests.memory": "256Gi",
        "requests.nvidia.com/gpu": "4",
        "persistentvolumeclaims": "10",
    }
    if "katib" not in without:
        hard["count/experiments.kubeflow.org"] = "5"
    if "kserve" not in without:
        hard["count/inferenceservices.serving.kserve.io"] = "5"
    return {**new_object("v1", "ResourceQuota", name), "spec": {"hard": hard}}
