"""The kinds of results, and the files that each of them consists of: so is known before the work what it will write."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

_WITHOUT_ARTICLE = ("prepared data", "layer energies", "manifests")


@dataclass(frozen=True)
class ResultKind:
    """A kind of result that fills a folder.

    Attributes:
        name: as a folder's record and messages call it.
        files: names of all that may be written there, with ``*`` where they vary.
    """

    name: str
    files: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    def has(self, name: str) -> bool:
        """Return whether what lies there under this name, relative to the folder, is where a file of this kind goes."""
        return any(fnmatchcase(name, one) or one.startswith(f"{name}/") for one in self.files)

    @property
    def uppermost(self) -> frozenset[str]:
        """Names of the files and folders in the folder itself."""
        return frozenset(one.partition("/")[0] for one in self.files)


def with_article(kind: str) -> str:
    """Return the name of a kind, maybe one of another version, as sentences have it."""
    return kind if kind in _WITHOUT_ARTICLE else f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"


PREPARED = ResultKind(
    "prepared data",
    (
        "conditions.npz", "geometry.csv", "geometry.xml", "prepared.json", "quality.md", "splits.npz", "transform.json",
        "transform.safetensors",
    ),
)  # fmt: skip
ENERGIES = ResultKind("layer energies", ("config.json", "training.json", "weights.safetensors"))
BUNDLE = ResultKind(
    "generator bundle",
    (
        "README.md", "config.json", "distillation.json", "distillation.md", "generator.onnx", "geometry.csv", "geometry.xml",
        "likelihood.json", "onnx.json", "optimisation.json", "optimisation.md", "optimisation.png", "seeded.onnx", "training.json",
        "transform.safetensors", "variant.json", "variant.onnx",
        "weights.safetensors",
    ),
)  # fmt: skip
REPORT = ResultKind(
    "validation report", ("metrics.json", "plots/*.pdf", "plots/*.png", "report.html", "summary.md", "tables.csv")
)
TRIAL = ResultKind("trial", ("bundle/*", "changed/*", "data/*", "prepared/*", "trial.json"))
TUNING = ResultKind(
    "tuning",
    (
        "data/*", "energies/*", "experiment.json", "history.png", "optimization_job.json", "overrides.json",
        "parallel_coordinates.png", "prepared/*", "study.db", "trials.json", "trials/*", "tuning.md",
    ),
)  # fmt: skip
ABLATION = ResultKind(
    "ablation",
    (
        "ablation.json", "ablation.md", "ablation.png", "data/*", "experiment.json", "prepared/*", "study.db", "trials/*",
    ),
)  # fmt: skip
COMPARISON = ResultKind(
    "comparison of families",
    (
        "ablations/*", "comparison.html", "comparison.json", "comparison.md", "comparison.png", "data/*", "experiment.json",
        "prepared/*", "study.db", "trials/*",
    ),
)  # fmt: skip
BENCHMARK = ResultKind(
    "benchmark", ("benchmark.html", "benchmark.json", "benchmark.md", "benchmark.png", "benchmark.svg")
)
REFINER = ResultKind(
    "refiner",
    ("config.json", "geometry.csv", "geometry.xml", "training.json", "transform.safetensors", "weights.safetensors"),
)
REFINEMENT = ResultKind(
    "refinement",
    (
        "prepared/*", "refined.hdf5", "refinement.json", "refinement.md", "refinement.png", "refiner/*",
        "report/*", "weights.hdf5",
    ),
)  # fmt: skip
FEW_STEPS = ResultKind("comparison of steps", ("steps.json", "steps.md", "steps.png"))
RUN = ResultKind(
    "run",
    (
        "bundle/*", "bundles/*", "checkpoints/*", "data/*", "energies/*", "generated/*", "leaderboard.json", "leaderboard.md",
        "metrics.json", "optimised/*", "overview.html", "pipeline.yaml", "plots/*", "quality.md", "report.html", "run.log", "steps/*",
        "students/*", "summary.md", "tables.csv", "timings.json", "tuning/*",
    ),
)  # fmt: skip
SIMULATION = ResultKind("simulation", (".at-work", "simulation.json"))
MANIFESTS = ResultKind("manifests")
