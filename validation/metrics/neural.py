"""Neural classifiers of showers, trained and read off as CaloChallenge does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from caloforge.progress import Progress
from caloforge.validation.metrics.classifier import auc_error, roc
from caloforge.validation.metrics.classifier_inputs import Inputs
from caloforge.validation.metrics.result import Result
from caloforge.validation.metrics.training import Training

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MARGIN = 1e-6
"""Calibrated probabilities stay so far from 0 and 1."""


@dataclass(frozen=True)
class Judgement:
    """What a classifier says about two samples.

    Attributes:
        auc: area under the ROC curve.
        jsd: Jensen-Shannon divergence over ln 2, as the cross entropy estimates it from below.
    """

    auc: Result
    jsd: Result


def dense(width: int, *, hidden: int = 2048) -> nn.Module:
    """Return CaloChallenge's network for rows of numbers: three hidden layers, leaky ReLU."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LeakyReLU(),
        nn.Linear(hidden, hidden), nn.LeakyReLU(),
        nn.Linear(hidden, hidden), nn.LeakyReLU(),
        nn.Linear(hidden, 1),
    )  # fmt: skip


def judge(
    reference: Inputs,
    generated: Inputs,
    network: Callable[[], nn.Module],
    *,
    name: str,
    training: Training,
    seed: int,
) -> Judgement:
    """Train networks to tell two samples apart and return how well they do on showers kept aside.

    In double precision: binary cross entropy, Adam, the epoch of the best accuracy on the second
    split, isotonic regression on it, AUC and divergence of the calibrated probabilities on the third
    (Krause et al. 2024, arXiv:2410.21611). Label 1 is the reference. Row i of both samples is in the
    same split, as the two may have the same incident energy.

    Args:
        reference: inputs of N showers of Geant4.
        generated: inputs of N generated showers.
        network: makes a network that takes (B, width) to (B, 1) logits.
        name: of the classifier, for the log.
        training: how to train.
        seed: of starts, splits and batches.

    Returns:
        Means over the trainings. The error of the AUC is the spread of the trainings, at least that
        of Hanley and McNeil (1982) for the showers of the third split; of the divergence their
        spread, at least the error of one mean over showers.
    """
    if (len(reference), reference.width) != (len(generated), generated.width):
        raise ValueError("both samples must have as many showers and inputs")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = training.epochs * math.ceil(2 * training.sizes(len(reference))[0] / training.batch_size)
    progress = Progress(f"classifier {name}", training.repeats * steps, unit="batch")
    found = []
    for i in range(training.repeats):
        rng = np.random.default_rng([seed, i])
        with torch.random.fork_rng(devices=[]), torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            torch.manual_seed(int(rng.integers(2**63)))
            model = network().to(device, torch.float64)
            found.append(_Run(reference, generated, model, training, rng, progress, i * steps).result())
    areas, divergences = [f.auc.value for f in found], [f.jsd.value for f in found]
    return Judgement(
        Result(float(np.mean(areas)), _error(found, "auc"), n=len(reference), roc=found[0].auc.roc),
        Result(float(np.mean(divergences)), _error(found, "jsd"), n=len(reference)),
    )


def operations(network: Callable[[], nn.Module], width: int, n: int, training: Training) -> float:
    """Return about how many floating-point operations a judgement with ``n`` showers of each kind takes."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        network().eval()(torch.zeros(1, width))
    forward = float(counter.get_total_flops())
    trained, chosen, _ = training.sizes(n)
    # Backward costs twice as much as forward.
    return forward * training.repeats * training.epochs * 2.0 * (3 * trained + chosen)


def calibrated(scores: FloatArray, labels: FloatArray, others: FloatArray) -> FloatArray:
    """Return the probabilities that ``others`` stand for, by isotonic regression on labelled scores."""
    fit = IsotonicRegression(out_of_bounds="clip", y_min=MARGIN, y_max=1 - MARGIN).fit(scores, labels)
    probability: FloatArray = fit.predict(others)
    return probability


def divergence(labels: FloatArray, probability: FloatArray) -> tuple[float, float]:
    """Return (ln 2 - binary cross entropy) / ln 2 and its statistical error."""
    gains = 1 + np.where(labels == 1, np.log2(probability), np.log2(1 - probability))
    return float(gains.mean()), float(gains.std(ddof=1) / np.sqrt(len(gains)))


def _error(found: list[Judgement], name: str) -> float:
    results: list[Result] = [getattr(judgement, name) for judgement in found]
    spread = float(np.std([result.value for result in results], ddof=1)) if len(results) > 1 else 0.0
    return max(spread, float(np.mean([result.error for result in results])))


class _Run:
    """One training."""

    def __init__(
        self,
        reference: Inputs,
        generated: Inputs,
        model: nn.Module,
        training: Training,
        rng: np.random.Generator,
        progress: Progress,
        done: int,
    ) -> None:
        self._samples = generated, reference
        self._model, self._training, self._rng = model, training, rng
        self._progress, self._done = progress, done
        self._n = len(reference)
        self._parts = np.split(rng.permutation(self._n), np.cumsum(training.sizes(self._n))[:2])

    def result(self) -> Judgement:
        self._train()
        scores, labels = self._scores(self._parts[1])
        final, truth = self._scores(self._parts[2])
        probability = calibrated(scores, labels, final)
        area = float(roc_auc_score(truth, probability))
        jsd, jsd_error = divergence(truth, probability)
        n = len(self._parts[2])
        return Judgement(
            Result(area, auc_error(area, n), n=self._n, roc=roc(truth, probability)), Result(jsd, jsd_error, n=self._n)
        )

    def _train(self) -> None:
        optimiser = torch.optim.Adam(self._model.parameters(), lr=self._training.learning_rate)
        loss_of = nn.BCEWithLogitsLoss()
        best, state = -1.0, self._model.state_dict()
        for _ in range(self._training.epochs):
            self._model.train()
            for inputs, labels in self._batches(self._parts[0], shuffled=True):
                loss = loss_of(self._model(inputs)[:, 0], labels)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                self._done += 1
                self._progress.update(self._done, f"best accuracy {best:.3f}" if best >= 0 else "")
            scores, truth = self._scores(self._parts[1])
            accuracy = float(np.mean(np.round(scores) == truth))
            if accuracy > best:
                best, state = accuracy, copy.deepcopy(self._model.state_dict())
            if accuracy == 1:
                break
        self._model.load_state_dict(state)

    @torch.no_grad()
    def _scores(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return the network's probability for each shower of both samples, and its label."""
        self._model.eval()
        parts = [(torch.sigmoid(self._model(x)[:, 0]), y) for x, y in self._batches(rows, shuffled=False)]
        scores, labels = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        return scores, labels

    def _batches(self, rows: IntArray, *, shuffled: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and labels of the rows of both samples."""
        device = next(self._model.parameters()).device
        order = np.arange(2 * len(rows))
        if shuffled:
            self._rng.shuffle(order)
        for start in range(0, len(order), self._training.batch_size):
            label, index = np.divmod(order[start : start + self._training.batch_size], len(rows))
            picked = [
                (sample.rows(rows[index[label == k]], device), float(k))
                for k, sample in enumerate(self._samples)
                if (label == k).any()
            ]
            inputs = torch.cat([x for x, _ in picked])
            yield inputs, torch.cat([x.new_full((len(x),), y) for x, y in picked])
