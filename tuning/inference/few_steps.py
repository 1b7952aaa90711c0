"""What fewer steps cost and gain: generators and samplers judged by the same Geant4 showers, and timed in turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.config import Config
from caloforge.domain import spread_over
from caloforge.errors import InputError
from caloforge.files import write_json
from caloforge.markdown import plain
from caloforge.models.bundle import Generator, bundle_folder, load_bundle
from caloforge.outputs import check_folder, result_folder
from caloforge.progress import Progress
from caloforge.provenance import machine, provenance
from caloforge.result_kinds import FEW_STEPS
from caloforge.showers import Showers
from caloforge.steps import step
from caloforge.tuning.inference.contest import ROUNDS, Contest
from caloforge.tuning.inference.few_steps_plot import draw
from caloforge.tuning.inference.fidelity import Judge
from caloforge.tuning.inference.optimise import MOST, check_showers
from caloforge.tuning.inference.record import Fidelity, Value

AT_ONCE = 100
"""Showers that are timed at once."""


@dataclass(frozen=True)
class Way:
    """A way to draw showers.

    Attributes:
        label: what tables call it.
        generator: what draws.
        steps: of its sampler.
    """

    label: str
    generator: Generator
    steps: int

    def seconds(self, n: int) -> float:
        """Return how long n showers take."""
        conditions = spread_over(self.generator.domains, n)
        began = time.perf_counter()
        self.generator.sample(conditions, seed=0, steps=self.steps)
        return time.perf_counter() - began

    def cpu_seconds(self) -> float:
        """Return the CPU time of this process: all ways are drawn in it."""
        return time.process_time()


class Judged(Config):
    """A way that was judged.

    Attributes:
        label: what tables call it.
        sampler: its name.
        steps: of the sampler.
        ms: milliseconds per shower, the median of the rounds.
        fidelity: how good the showers are; ``auc_plain`` is against the first way.
    """

    label: str
    sampler: str
    steps: int
    ms: float
    fidelity: Fidelity


class FewSteps(Config):
    """All ways beside each other, the first what the others are measured by.

    Attributes:
        family: of the generators.
        showers: of each kind that were judged by.
        floor: the fidelity between two Geant4 samples, and of the first way beside itself.
        ways: in the order that was asked for.
        machine: processor, cores, versions.
        provenance: of the measurement.
    """

    family: str
    showers: int
    floor: Fidelity
    ways: tuple[Judged, ...]
    machine: dict[str, Any]
    provenance: dict[str, Any]


def compare_steps(
    bundle: Path,
    samplers: Sequence[dict[str, Any]],
    steps: Sequence[int],
    reference: Showers,
    other: Showers,
    output: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
) -> FewSteps:
    """Judge a generator with each sampler and each number of steps, and write a table and a plot.

    Args:
        bundle: the generator's folder.
        samplers: name and settings of each.
        steps: the numbers of steps; the largest with the first sampler is what the others are measured by.
        reference: Geant4 showers that the generator was not trained on.
        other: more Geant4 showers, for the floors.
        output: folder for ``steps.md``, ``.json`` and ``.png``.
        seed: of the showers and classifiers.
        overwrite: see :func:`caloforge.outputs.check_folder`.

    Raises:
        InputError: the bundle is damaged, takes no steps, a sampler does not fit it, or the showers do not.
    """
    bundle = bundle_folder(bundle)
    check_folder(output, FEW_STEPS, inputs=[bundle], overwrite=overwrite)
    ways = []
    for sampler in samplers:
        generator = load_bundle(bundle, sampler=sampler)
        if generator.default_steps is None:
            raise InputError(f"{bundle}: {generator.family} draws a shower in one pass; there are no steps to compare")
        others = {key: value for key, value in sampler.items() if key not in ("name", "steps")}
        name = ", ".join([str(sampler["name"]), *(f"{key}={value}" for key, value in others.items())])
        ways += [Way(name, generator, n) for n in sorted(set(steps), reverse=True)]
    with step(f"steps of {ways[0].generator.family}"):
        found = judge_ways(ways, reference, other, seed=seed, inputs={"weights": bundle / "weights.safetensors"})
        with result_folder(output, FEW_STEPS, inputs=[bundle], overwrite=overwrite) as folder:
            write_json(folder / "steps.json", found.model_dump(mode="json"))
            (folder / "steps.md").write_text(table(found), encoding="utf-8")
            draw(found, folder / "steps.png")
    return found


def judge_ways(
    ways: Sequence[Way], reference: Showers, other: Showers, *, seed: int, inputs: dict[str, Path]
) -> FewSteps:
    """Draw showers in each way with the incident particles of the reference, judge and time them.

    Raises:
        InputError: the showers do not fit the generators or are too few.
    """
    first = ways[0].generator
    for showers in (reference, other):
        check_showers(showers, first)
    n = min(len(reference), len(other), MOST)
    reference, other = (
        showers.select(np.linspace(0, len(showers) - 1, n, dtype=np.int64)) for showers in (reference, other)
    )
    conditions = reference.conditions
    judge = Judge(
        reference, other, first, seed=seed, plain=first.sample(conditions, seed=seed + 1, steps=ways[0].steps)
    )
    progress = Progress("judging", len(ways), unit="way")
    fidelities, floor = [], None
    for number, way in enumerate(ways):
        drawn = way.generator.sample(conditions, seed=seed, steps=way.steps)
        floor = floor or judge.floor(drawn)
        fidelities.append(judge.judge(drawn))
        progress.update(number + 1)
    assert floor is not None
    contest: Contest[Way] = Contest()
    contest.alive = {str(number): way for number, way in enumerate(ways)}
    times = contest.time([AT_ONCE])
    judged = tuple(
        Judged(
            label=way.label,
            sampler=way.generator.config["settings"]["sampler"]["name"],
            steps=way.steps,
            ms=times[str(number)][AT_ONCE].median,
            fidelity=fidelity,
        )
        for number, (way, fidelity) in enumerate(zip(ways, fidelities, strict=True))
    )
    return FewSteps(
        family=first.family, showers=n, floor=floor, ways=judged, machine=machine(),
        provenance=provenance(inputs={**inputs, "showers": reference.path}, seed=seed),
    )  # fmt: skip


def table(found: FewSteps) -> str:
    """Return the comparison in Markdown."""
    first = found.ways[0]
    heads = ["", "sampler", "steps", "ms per shower", "times as fast", "FPD", "FPD / first", "AUC", "AUC against first"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for way in found.ways:
        speed, worse = first.ms / way.ms, way.fidelity.fpd.value / first.fidelity.fpd.value
        cells = [
            plain(way.label),
            way.sampler,
            str(way.steps),
            f"{way.ms:.3g}",
            f"{speed:.2g}",
            _told(way.fidelity.fpd),
        ]
        cells += [f"{worse:.2f}", _told(way.fidelity.auc), _told(way.fidelity.auc_plain)]
        lines.append("| " + " | ".join(cells) + " |")
    floor = found.floor
    cells = ["floor", "", "", "", "", _told(floor.fpd), "", _told(floor.auc), _told(floor.auc_plain)]
    lines.append("| " + " | ".join(cells) + " |")
    note = (
        f"{plain(found.family)}, {found.showers} showers of each kind. The floor is Geant4 against itself, in the last column the "
        f"first line against itself. Milliseconds: the median of {ROUNDS} rounds of {AT_ONCE} showers, in turns, on "
        f"{plain(str(found.machine['processor']))}."
    )
    return "\n".join([*lines, "", note, ""])


def sentence(found: FewSteps) -> str:
    """Return how the second way, a student, compares with the first, its teacher."""
    teacher, student = found.ways[:2]
    fpd, auc = (
        f"{name} {_told(ours)} for {_told(theirs)}"
        for name, ours, theirs in (
            ("FPD", student.fidelity.fpd, teacher.fidelity.fpd),
            ("AUC", student.fidelity.auc, teacher.fidelity.auc),
        )
    )
    return (
        f"a student of {student.steps} step{'s' * (student.steps > 1)} ({student.sampler}) in place of a teacher of {teacher.steps} "
        f"({teacher.sampler}): {teacher.ms / student.ms:.2g} times as fast, {fpd}, {auc} ({found.showers} showers of the "
        "validation split)"
    )


def _told(value: Value) -> str:
    return f"{value.value:.3g} ± {value.error:.1g}"


def figures(found: FewSteps) -> dict[str, float]:
    """Return what the second way gains and loses beside the first, under one flat name each."""
    first, second = found.ways[:2]
    return {
        "ms_per_shower": second.ms,
        "speed": first.ms / second.ms,
        "fpd": second.fidelity.fpd.value,
        "fpd_teacher": first.fidelity.fpd.value,
        "auc": second.fidelity.auc.value,
        "auc_teacher": first.fidelity.auc.value,
    }
