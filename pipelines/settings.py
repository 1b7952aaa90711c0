"""Settings of the pipeline: what is trained on what, and what each step gets on a cluster."""

from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from caloforge import __version__
from caloforge.components.image import IMAGE
from caloforge.config import Config
from caloforge.errors import unknown_name
from caloforge.preprocessing.prepare import PrepareSettings

FAMILIES = ("coupling_flow", "flow_matching", "diffusion", "wgan", "vae")
"""Names of :data:`caloforge.models.families.FAMILIES`, known without importing torch; the longest
trainings first, so that two that run side by side end together."""

PRESETS = ("demo", "full")
"""Names of :data:`caloforge.models.presets.PRESETS`, known without importing torch."""

Step = Literal["preprocess", "train", "generate", "validate", "compare", "export", "smoke"]


class Resources(Config):
    """What one step asks of the cluster; a local run ignores it.

    Attributes:
        cpu: requested cores, as Kubernetes writes them.
        memory: requested and allowed memory, as Kubernetes writes it.
        gpus: number of GPUs.
        gpu_type: Kubernetes' name of the GPU resource.
    """

    cpu: str = "2"
    memory: str = "8G"
    gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"


class PipelineSettings(Config):
    """What ``build_pipeline`` makes a pipeline from.

    Attributes:
        name: name of the pipeline.
        image: container image of all steps; never tag it ``latest``, Kubeflow caches by its name.
        code_version: part of the cache key of the first step.
        data: default of the pipeline's parameter ``data``, the address of the shower file.
        families: generator families to train.
        preset: size of the generators and of their training.
        overrides: settings per family on top of the preset, e.g. ``{vae: {learning_rate: 1e-3}}``.
        max_minutes: bound of each training, 0 for none.
        seed: seed of every step.
        prepare: settings of the preprocessing.
        resources: what single steps ask of the cluster, e.g. ``{train: {gpus: 1}}``.
        retries: how often a failed step is tried again.
    """

    name: str = Field(default="caloforge", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    image: str = IMAGE
    code_version: str = __version__
    data: str = ""
    families: tuple[str, ...] = Field(default=FAMILIES, min_length=1)
    preset: str = "demo"
    overrides: dict[str, dict[str, Any]] = Field(default_factory=dict)
    max_minutes: float = Field(default=0.0, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**53)
    prepare: PrepareSettings = PrepareSettings()
    resources: dict[Step, Resources] = Field(default_factory=dict)
    retries: int = Field(default=2, ge=0)

    @field_validator("families", "overrides")
    @classmethod
    def _known_families(cls, value: Any) -> Any:
        for name in value:
            _check_name("family", name, FAMILIES)
        if isinstance(value, tuple) and len(set(value)) < len(value):
            raise PydanticCustomError("repeated", "a family is named twice")
        return value

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str) -> str:
        _check_name("preset", value, PRESETS)
        return value


def _check_name(kind: str, name: str, valid: tuple[str, ...]) -> None:
    if name not in valid:
        # A plain ValueError's text would get pydantic's own prefix.
        raise PydanticCustomError("unknown_name", "{text}", {"text": str(unknown_name(kind, name, valid))})
