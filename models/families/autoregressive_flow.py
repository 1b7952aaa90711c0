"""Autoregressive flow, and a student that draws in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from torch import Tensor

from caloforge.draws import Draws
from caloforge.errors import InputError
from caloforge.models.batch import Batch
from caloforge.models.configuration import TrainingConfig, by_default
from caloforge.models.distillation import Student
from caloforge.models.family import DataSpec, Stage, needs_gpu
from caloforge.models.networks.masked_flow import MaskedFlow, MaskedFlowConfig
from caloforge.models.objectives.objective import ObjectiveChoice
from caloforge.models.samplers.sampler import SamplerChoice
from caloforge.models.voxel_family import VoxelFamily, VoxelFamilyConfig

if TYPE_CHECKING:
    from caloforge.models.training.data import TrainingData

STUDENT_SHARE = 0.4
"""Share of a time limit that the distillation may use."""


class AutoregressiveFlowConfig(VoxelFamilyConfig):
    """Defaults of the autoregressive flow; see the base.

    Attributes:
        drawn_by: the ``student``, in one pass a transform, or the ``teacher``, in as many as there are voxels; then no student
            is trained.
        distillation: training of the student.
    """

    model: MaskedFlowConfig = MaskedFlowConfig()
    objective: ObjectiveChoice = by_default(name="likelihood")
    sampler: SamplerChoice = by_default(name="one_pass")
    drawn_by: Literal["student", "teacher"] = "student"
    distillation: TrainingConfig = TrainingConfig()


class AutoregressiveFlow(VoxelFamily):
    """A masked flow with exact likelihood as the teacher, an inverse autoregressive one of equal size as the student.

    Source: Krause and Shih, CaloFlow, arXiv:2106.05285, and CaloFlow II, arXiv:2110.11377.
    """

    Config = AutoregressiveFlowConfig
    architecture = MaskedFlow
    note = needs_gpu(1, "iCaloFlow, AUC 0.763 (teacher) and 0.819 (student) on dataset 2 (arXiv:2410.21611)")
    space: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "training.learning_rate": {"type": "double", "min": 0.0005, "max": 0.01, "log": True},
        "training.batch_size": {"type": "categorical", "values": [32, 64, 128]},
        "model.transforms": {"type": "int", "min": 2, "max": 6},
        "model.bins": {"type": "int", "min": 4, "max": 12},
        "model.network.width": {"type": "int", "min": 96, "max": 480, "step": 48},
    }

    def __init__(self, config: Any, data: DataSpec) -> None:
        super().__init__(config, data)
        if config.drawn_by == "student":
            n_conditions = self.encoder.n_features + 3 * data.geometry.n_layers
            self.student = Student(MaskedFlow(data.geometry, n_conditions, config.model))

    def stages(self) -> dict[str, Stage]:
        """Return the training of layer energies, of the teacher and of the student."""
        stages = super().stages()
        if self.config.drawn_by == "student":
            stages["student"] = Stage(self.config.distillation, self._lesson, share=STUDENT_SHARE)
        return stages

    def _lesson(self, data: TrainingData, number: int, size: int, draws: Draws) -> tuple[Batch, MaskedFlow]:
        """Return showers and the teacher."""
        return self._voxel_batch(data, number, size, draws), cast("MaskedFlow", self.voxels.network)

    def draw(self, noise: Tensor, condition: Tensor, steps: int | None) -> Tensor:
        """Draw network-space voxels (B, V) as the configuration says."""
        if self.config.drawn_by == "teacher":
            return super().draw(noise, condition, steps)
        return self.student.draw(noise, condition)

    def write_onnx(self, path: Path, conditions: Tensor, noise: Tensor, *, steps: int | None, opset: int) -> None:
        """Write the student; see the base.

        Raises:
            InputError: there is none.
        """
        if self.config.drawn_by == "teacher":
            raise InputError(
                f"autoregressive_flow: the teacher draws voxel by voxel, and a graph of {self.data.geometry.n_voxels} network "
                "passes a transform is of no use; train it with drawn_by: student"
            )
        super().write_onnx(path, conditions, noise, steps=steps, opset=opset)
