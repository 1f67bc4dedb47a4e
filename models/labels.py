"""What the outputs of a classifier mean: one class out of K, or each of K classes present or not.

Everything that depends on it stands here: probabilities, losses, which classes a classifier says it hears, and the
scores of its answers. A classifier of several labels is, asked about class c, one of two classes: c with the logit z_c
against its absence with the logit 0. The scores of explanations therefore need no second form.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import UsageError
from models.ranking import macro_auc, macro_f1, mean_average_precision

THRESHOLD = 0.5
"""The probability from which a class counts as heard where a clip may have several."""
NO_CLASS = -1
"""Stands for a class index where no class is meant."""


class Labels(ABC):
    """The meaning of logits [B, K].

    name: as recipes write it. exclusive: whether exactly one class is right. quality: the first of `scores`, by which
    epochs are chosen. correct: what the share of explained classes that are among the labels is called.
    """

    name: ClassVar[str]
    exclusive: ClassVar[bool]
    quality: ClassVar[str]
    correct: ClassVar[str]

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """[B, K] in float32."""

    @abstractmethod
    def mean_over(self, logits: Tensor) -> Tensor:
        """[B, K] float32 logits whose probabilities are the means of those of W answers, logits [B, W, K]."""

    @abstractmethod
    def max_over(self, logits: Tensor) -> Tensor:
        """As `mean_over`, of the maxima; of one label they are made to sum to 1."""

    @abstractmethod
    def cross_entropy(self, logits: Tensor, truth: Tensor) -> Tensor:
        """[B] loss of logits [B, K] against the truth [B, K], weights in [0, 1]."""

    @abstractmethod
    def surprise(self, logits: Tensor, target: Tensor) -> Tensor:
        """[B] -log of the probability of the class asked about, target [B]."""

    @abstractmethod
    def log_odds(self, logits: Tensor, target: Tensor) -> Tensor:
        """[B] log(p / (1 - p)) of the class asked about, target [B], in nats."""

    @abstractmethod
    def active(self, probabilities: Tensor) -> Tensor:
        """[B, K] bool: the classes that a classifier says it hears."""

    @abstractmethod
    def heard(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [R] of logits [B, K] and classes [R]: every class that is heard in a clip, clip by clip."""

    @abstractmethod
    def about(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """Probabilities [B, K] as a posterior over the alternatives to the target [B], rows that sum to 1.

        Its largest value is that of the target wherever the target is active.
        """

    @abstractmethod
    def scores(self, probabilities: Tensor, truth: Tensor) -> dict[str, float]:
        """How good answers [n, K] to n clips are, `quality` first. truth: [n, K] bool."""

    def answer(self, probabilities: Tensor, target: Tensor) -> Tensor:
        """[B] the target where it is active; else the class that is heard in its place, or `NO_CLASS`."""
        active = self.active(probabilities)
        instead = probabilities.argmax(dim=1) if self.exclusive else torch.full_like(target, NO_CLASS)
        return torch.where(active.gather(1, target[:, None])[:, 0], target, instead)


@dataclass(frozen=True)
class OneLabel(Labels):
    """Exactly one class is right: a softmax."""

    name, exclusive, quality, correct = "one", True, "acc", "acc"

    def probabilities(self, logits):
        return logits.float().softmax(dim=1)

    def mean_over(self, logits):
        return _log_mean(self._log_probabilities(logits))

    def max_over(self, logits):
        return self._log_probabilities(logits).amax(dim=1)

    @staticmethod
    def _log_probabilities(logits):
        """[B, W, K] of logits [B, W, K]."""
        logits = logits.float()
        return logits - logits.logsumexp(dim=2, keepdim=True)

    def cross_entropy(self, logits, truth):
        return F.cross_entropy(logits.float(), truth, reduction="none")

    def surprise(self, logits, target):
        return F.cross_entropy(logits.float(), target, reduction="none")

    def log_odds(self, logits, target):
        logits = logits.float()
        asked = logits.gather(1, target[:, None])
        rivals = logits.scatter(1, target[:, None], -math.inf)
        return asked[:, 0] - rivals.logsumexp(dim=1)

    def active(self, probabilities):
        top = probabilities.argmax(dim=1, keepdim=True)
        return torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, top, True)

    def heard(self, logits):
        return torch.arange(len(logits), device=logits.device), logits.argmax(dim=1)

    def about(self, probabilities, target):
        return probabilities

    def scores(self, probabilities, truth):
        right = truth.gather(1, probabilities.argmax(dim=1, keepdim=True))
        return {"acc": right.double().mean().item()}


@dataclass(frozen=True)
class SeveralLabels(Labels):
    """Each class is present or not, whatever the others are: a sigmoid."""

    name, exclusive, quality, correct = "several", False, "map", "precision"

    def probabilities(self, logits):
        return logits.float().sigmoid()

    def mean_over(self, logits):
        present, absent = F.logsigmoid(logits.float()), F.logsigmoid(-logits.float())
        return _log_mean(present) - _log_mean(absent)

    def max_over(self, logits):
        return logits.float().amax(dim=1)

    def cross_entropy(self, logits, truth):
        """Binary cross-entropy, mean over the classes."""
        return F.binary_cross_entropy_with_logits(logits.float(), truth.float(), reduction="none").mean(dim=1)

    def surprise(self, logits, target):
        return F.softplus(-logits.float().gather(1, target[:, None])[:, 0])

    def log_odds(self, logits, target):
        return logits.float().gather(1, target[:, None])[:, 0]

    def active(self, probabilities):
        return probabilities >= THRESHOLD

    def heard(self, logits):
        rows, classes = self.active(self.probabilities(logits)).nonzero(as_tuple=True)
        return rows, classes

    def about(self, probabilities, target):
        asked = probabilities.gather(1, target[:, None])
        return torch.cat([asked, 1 - asked], dim=1)

    def scores(self, probabilities, truth):
        return {
            "map": mean_average_precision(probabilities, truth),
            "macro_auc": macro_auc(probabilities, truth),
            "macro_f1": macro_f1(self.active(probabilities), truth),
        }


def _log_mean(log_values: Tensor) -> Tensor:
    """[B, K] logarithm of the mean over the W values [B, W, K] whose logarithms these are."""
    return log_values.logsumexp(dim=1) - math.log(log_values.shape[1])


ONE_LABEL, SEVERAL_LABELS = OneLabel(), SeveralLabels()
KINDS = {labels.name: labels for labels in (ONE_LABEL, SEVERAL_LABELS)}


def labels_of(name: str) -> Labels:
    """The labels that a recipe names. Raises UsageError for another name."""
    if name not in KINDS:
        raise UsageError(f"labels={name!r} must be one of {', '.join(KINDS)}")
    return KINDS[name]
