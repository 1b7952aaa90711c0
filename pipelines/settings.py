"""Settings of the pipeline: what is trained on what, and what each step gets on a cluster."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from caloforge.components.image import IMAGE
from caloforge.config import Config
from caloforge.errors import InputError, unknown_name
from caloforge.fetch import FETCH_CACHE
from caloforge.kubernetes_rules import Image, MountPath, NamespaceOrNone, ObjectName, ObjectNameOrNone
from caloforge.models.configuration import DistillSettings
from caloforge.models.registries import FAMILIES, PRESETS
from caloforge.models.training.pod import TrainingPod
from caloforge.pipelines.early import check_distillation, check_overrides, check_search
from caloforge.place import TRAIN_BACKENDS, TrainBackend, place
from caloforge.pods import Pod, SecretKey, cpu_limit, refuse_secrets
from caloforge.preprocessing.prepare import PrepareSettings
from caloforge.preprocessing.simulation.settings import SimulateSettings
from caloforge.serving.inference_service import ServiceSettings, check_service_name
from caloforge.tuning.inference.record import OptimiseSettings
from caloforge.tuning.settings import TuneSettings
from caloforge.validation.registries import PROTOCOLS

Step = Literal[
    "simulate",
    "convert",
    "preprocess",
    "tune",
    "train",
    "distill",
    "generate",
    "validate",
    "export",
    "optimise",
    "deploy",
    "overview",
    "notify",
]

STEPS: tuple[Step, ...] = get_args(Step)

DEFAULT_FAMILIES = ("tree", "coupling_flow", "vae")
"""What is trained where nothing else is said: the splitting tree, and beside it a flow with an exact likelihood
and the fastest of the families that draw all voxels at once. The longest trainings first, so that two that run
side by side end together."""

_SMALL: Mapping[Step, Mapping[str, str]] = {"notify": {"cpu": "100m", "memory": "512M"}}
"""Steps that need next to nothing, whatever the others get."""

_FETCHING: tuple[Step, ...] = (
    "convert", "preprocess", "tune", "train", "distill", "validate", "optimise",
)  # fmt: skip
"""Steps that need the showers."""

_WAITING: dict[str, Any] = {
    "cpu": "500m", "memory": "4G", "gpus": 0, "node_selector": {}, "tolerations": (), "shm": "",
}  # fmt: skip
"""What a step gets that waits for pods of its own."""

MOST_MINUTES = 525_600
"""A year: whoever writes more means no bound, which is 0."""

_Seconds = Annotated[int, Field(ge=1, lt=2**31)]


class Backoff(Config):
    """How long a step whose pod was lost waits before it is tried again.

    Attributes:
        seconds: before the first new attempt.
        factor: by which each further wait is longer.
        max_seconds: longest wait.
    """

    seconds: int = Field(default=30, ge=0, le=86_400)
    factor: float = Field(default=2.0, ge=1, le=100)
    max_seconds: int = Field(default=3600, ge=0, le=604_800)


class Distributed(Config):
    """How one training is spread.

    Attributes:
        nodes: pods of each training.
        processes: processes for each pod; where ``resources: {train}`` has GPUs, at least one for each.
        backend: ``cluster`` for a TrainJob, ``local`` for torchrun within the step's own pod, ``auto``
            for a TrainJob where there are several nodes.
        runtime: the cluster's ClusterTrainingRuntime.
        shared: folder on one of the claims of ``resources: {train}`` through which the step and the pods
            of its TrainJob exchange data.
    """

    nodes: int = Field(default=1, ge=1, le=10_000)
    processes: int = Field(default=1, ge=1, le=1024)
    backend: TrainBackend = "auto"
    runtime: ObjectName = "torch-distributed"
    shared: str = ""


class FetchCache(Config):
    """Where fetched shower files are kept for all steps of all runs.

    Attributes:
        claim: persistent volume claim that many pods may write to (ReadWriteMany).
        path: where the pods find it.
    """

    claim: ObjectName
    path: MountPath = "/fetched"


class PipelineSettings(Config):
    """What ``build_pipeline`` makes a pipeline from.

    Attributes:
        name: name of the pipeline.
        image: container image of all steps; never tag it ``latest``, Kubeflow caches by its name.
        image_pull_policy: when a node fetches the image.
        code_version: part of the cache key of every step; empty: version and digest of the installed package.
        data: default of the pipeline's parameter ``data``, the address of the shower file; or addresses of several
            files, which the step ``convert`` makes one of.
        test: addresses of showers that generators are judged on, in place of a part of ``data``; ``convert`` adds them.
        simulate: showers that Geant4 makes at the begin of the run, in place of ``data``, e.g.
            ``{detector: siw, beam: {energy: [1000, 100000]}, n: 5000}``; the image needs ``caloforge[geant4]`` and the
            data sets of Geant4, see docs/simulation.md.
        convert: whether there is that step for one file too: showers of any format (docs/formats.md), or a pattern.
        fetch_cache: claim on which fetched shower files are kept, e.g. ``{claim: caloforge-fetched}``; none without it.
        families: generator families to train.
        preset: size of the generators and of their training.
        overrides: settings per family on top of the preset, e.g.
            ``{vae: {training: {learning_rate: 1e-3}}}``.
        max_minutes: bound of each training, 0 for none.
        protocol: how showers are judged: ``quick`` on any geometry, ``challenge`` as CaloChallenge does.
        seed: seed of every step.
        strict: end the run where one family fails, in place of going on with the others.
        checkpoints: folder on one of the claims, from which a training whose pod was lost goes on; empty: none.
        prepare: settings of the preprocessing.
        tuning: search for each family's parameters before its training, e.g. ``{trials: 20}``; none without it.
        distill: students with few sampling steps in place of the generators that take many, e.g. ``{steps: 1}``; none without it.
        pod: what every step gets on the cluster.
        resources: what single steps get on top of ``pod``, with the same keys, e.g. ``{train: {gpus: 1}}``;
            maps (``env``, ``claims``, ...) are merged, everything else is replaced.
        distributed: on how many pods and processes each training runs.
        retries: how often a step whose pod was lost is tried again. A step that failed is not, unless the installation
            of Kubeflow Pipelines has it so: it would fail again, and what can pass is waited for within the step.
        backoff: waits between these attempts.
        timeouts: seconds that one attempt of a step may take, e.g. ``{train: 86400}``; none for the others.
        deadline_seconds: seconds that the whole run may take.
        ttl_seconds: seconds after which a finished run's pods are removed; Kubeflow's records stay.
        cache: whether Kubeflow may take the result of an equal step from an earlier run.
        webhook: entry of a Secret with the address to which the end of a run is posted; its log alone without it.
        namespace: where runs are started: a user's profile, or empty without multi-user isolation.
        service_account: account that the steps run as; Kubeflow's default without it.
        optimise: how the fastest way to run the winner is found; ``null``: it is not looked for.
        deploy: name of the InferenceService for the winner; empty: it is served for a moment only, to compare.
        service: how it is served; image, namespace and registry passwords are those of the steps unless given.
    """

    name: str = Field(default="caloforge", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=100)
    image: Image = IMAGE
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    code_version: str = ""
    data: str | tuple[str, ...] = ""
    test: tuple[str, ...] = ()
    simulate: SimulateSettings | None = None
    convert: bool = False
    fetch_cache: FetchCache | None = None
    families: tuple[str, ...] = Field(default=DEFAULT_FAMILIES, min_length=1)
    preset: str = "demo"
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    max_minutes: float = Field(default=0.0, ge=0, le=MOST_MINUTES)
    protocol: str = "quick"
    seed: int = Field(default=0, ge=0, lt=2**53)
    strict: bool = False
    checkpoints: str = ""
    prepare: PrepareSettings = PrepareSettings()
    tuning: TuneSettings = TuneSettings()
    distill: DistillSettings | None = None
    pod: Pod = Pod()
    resources: dict[Step, dict[str, Any]] = Field(default_factory=dict)
    distributed: Distributed = Distributed()
    retries: int = Field(default=2, ge=0, le=100)
    backoff: Backoff = Backoff()
    timeouts: dict[Step, _Seconds] = Field(default_factory=dict)
    deadline_seconds: _Seconds | None = None
    ttl_seconds: _Seconds | None = None
    cache: bool = True
    webhook: SecretKey | None = None
    namespace: NamespaceOrNone = ""
    service_account: ObjectNameOrNone = ""
    optimise: OptimiseSettings | None = OptimiseSettings()
    deploy: str = ""
    service: ServiceSettings = ServiceSettings()

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, values: Any) -> Any:
        """Refuse texts that are yet to be filled in: Kubeflow would take those in braces for its own."""
        for path, text in _texts(values):
            if "{{" in text:
                raise _refused(f"{path}: {text[:80]!r} holds '{{{{', which Kubeflow takes for a placeholder of its own")
            if path.split(".")[-1] in ("data", "test", "checkpoints", "shared") and _TO_FILL_IN.search(text):
                raise _refused(f"{path}: {text[:80]!r} is yet to be filled in")
        return values

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            if isinstance(values.get("webhook"), str):
                text = "its address is a secret; give the entry of a Secret that holds it: {secret: chat, key: url}"
                raise PydanticCustomError("webhook", "webhook: {text}", {"text": text})
            refuse_secrets(values)
        return values

    @field_validator("families", "overrides")
    @classmethod
    def _known_families(cls, value: Any) -> Any:
        for name in value:
            _check_name("family", name, FAMILIES.names)
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise PydanticCustomError("repeated", "a family is named twice")
        return value

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        _check_name("preset", value, PRESETS)
        return value

    @field_validator("protocol")
    @classmethod
    def _known_protocol(cls, value: str) -> str:
        _check_name("protocol", value, PROTOCOLS)
        return value

    @field_validator("image")
    @classmethod
    def _pinned(cls, value: str) -> str:
        if not is_pinned(value):
            raise PydanticCustomError(
                "not_pinned",
                "{text}",
                {"text": f"{value!r} has no tag of its own; Kubeflow caches by the image's name"},
            )
        return value

    @field_validator("deploy")
    @classmethod
    def _known_to_kserve(cls, value: str) -> str:
        if value:
            try:
                check_service_name(value)
            except InputError as error:
                raise PydanticCustomError("service_name", "{text}", {"text": str(error)}) from None
        return value

    @field_validator("resources", "timeouts", mode="before")
    @classmethod
    def _known_steps(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name in value:
                _check_name("step", name, STEPS)
        return value

    @field_validator("resources")
    @classmethod
    def _parts_of_a_pod(cls, value: dict[Step, dict[str, Any]]) -> dict[Step, dict[str, Any]]:
        for step, part in value.items():
            try:
                Pod.parse(part, where=step)
            except InputError as error:
                raise PydanticCustomError("not_a_pod", "{text}", {"text": str(error)}) from None
        return value

    @model_validator(mode="after")
    def _what_a_step_would_refuse(self) -> Self:
        try:
            for step in STEPS:  # parts that fit each on its own may not fit together
                cpu_limit(self._pod_of(step))
            check_overrides(self.preset, self.overrides)
            check_search(self.tuning, self.families, self.preset, self.overrides)
            check_distillation(self.distill, self.families, self.preset, self.overrides)
        except InputError as error:
            raise PydanticCustomError("refused_later", "{text}", {"text": str(error)}) from None
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.simulate is not None and (self.data or self.converts):
            given = next(name for name in ("data", "test", "convert") if getattr(self, name))
            raise _refused(f"simulate: makes the showers of the run, and {given} names others; give one of them")
        return self

    @property
    def converts(self) -> bool:
        """Whether a step writes the showers as one file first."""
        return self.convert or bool(self.test) or not isinstance(self.data, str)

    @property
    def trains_in_train_job(self) -> bool:
        """Whether the step of a training makes a TrainJob and waits for it."""
        spread = self.distributed
        return place(spread.backend, TRAIN_BACKENDS, wanted=spread.nodes > 1, inside=True) == "cluster"

    def training_pod(self) -> TrainingPod:
        """Return what each pod of a TrainJob gets."""
        values: dict[str, Any] = {
            "image": self.image, "namespace": self.namespace, "service_account": self.service_account or None,
            "runtime": self.distributed.runtime, "shared": self.distributed.shared,
        }  # fmt: skip
        return TrainingPod.model_validate({**self._pod_of("train").model_dump(), **values})

    def pod_of(self, step: Step) -> Pod:
        """Return what a step gets on the cluster; one that waits for a TrainJob needs little."""
        pod = self._pod_of(step)
        if step == "train" and self.trains_in_train_job:
            return pod.model_copy(update=_WAITING)
        return pod

    def _pod_of(self, step: Step) -> Pod:
        """Return ``pod`` with the step's own part on top."""
        values = self.pod.model_dump()
        for part in (
            _SMALL.get(step, {}),
            Pod.model_validate(self.resources.get(step, {})).model_dump(exclude_unset=True),
        ):
            for key, value in part.items():
                values[key] = {**values[key], **value} if isinstance(value, dict) else value
        if self.fetch_cache is not None and step in _FETCHING:
            values["claims"] = {**values["claims"], self.fetch_cache.claim: self.fetch_cache.path}
            values["env"] = {**values["env"], FETCH_CACHE: self.fetch_cache.path}
        return Pod.parse(values, where=f"resources of {step!r}")

    def served(self) -> ServiceSettings:
        """Return how the winner is served, with what it takes from the steps."""
        taken = {"image": self.image, "namespace": self.namespace, "image_pull_secrets": self.pod.image_pull_secrets}
        mine = {key: value for key, value in taken.items() if key not in self.service.model_fields_set}
        return self.service.model_copy(update=mine)


_TO_FILL_IN = re.compile(r"<[^<>]*>")


def _texts(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path of each text in settings, keys of maps too, and the text."""
    if isinstance(values, str):
        yield path, values
    elif isinstance(values, BaseModel):
        yield from _texts(values.model_dump(), path)
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield path, str(key)
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value, path)


def _refused(text: str) -> PydanticCustomError:
    # A plain ValueError's text would get pydantic's own prefix.
    return PydanticCustomError("refused", "{text}", {"text": text})


def is_pinned(image: str) -> bool:
    """Return whether an image is named by a digest or by a tag other than ``latest``."""
    name, digest = image.partition("@")[::2]
    tag = name.rpartition("/")[2].partition(":")[2]
    return bool(digest) or tag not in ("", "latest")


def _check_name(kind: str, name: str, valid: Collection[str]) -> None:
    if name not in valid:
        # A plain ValueError's text would get pydantic's own prefix.
        raise PydanticCustomError("unknown_name", "{text}", {"text": str(unknown_name(kind, name, valid))})
