"""Scores of a classifier whose clips may have several labels: means over classes, so that a rare class counts as much.

Every score looks at one class after the other, over n clips. Classes without a clip that has them, and for the AUC also
classes that every clip has, are undefined and left out; a score is NaN where no class is left.
"""

import math
from statistics import fmean

import torch
from torch import Tensor


def mean_average_precision(probabilities: Tensor, truth: Tensor) -> float:
    """mAP of probabilities [n, K] for the truth [n, K]: the mean of every class's average precision."""
    return _mean_over_classes(_average_precision, probabilities, truth)


def macro_auc(probabilities: Tensor, truth: Tensor) -> float:
    """The mean of every class's area under the ROC curve."""
    return _mean_over_classes(_auc, probabilities, truth)


def macro_f1(active: Tensor, truth: Tensor) -> float:
    """The mean of every class's F1 of what is called active [n, K]."""
    return _mean_over_classes(_f1, active, truth)


def _mean_over_classes(score, said: Tensor, truth: Tensor) -> float:
    if said.shape != truth.shape or truth.dtype != torch.bool:
        raise ValueError(
            f"truth must be bool {tuple(said.shape)}, a column a class, not {truth.dtype} {tuple(truth.shape)}"
        )
    values = []
    for of_class, truth_of_class in zip(said.T, truth.T, strict=True):
        value = score(of_class, truth_of_class)
        if not math.isnan(value):
            values.append(value)
    return fmean(values) if values else math.nan


def _average_precision(probability: Tensor, truth: Tensor) -> float:
    """sum over thresholds of (gain in recall) x precision; clips of one probability are taken at once."""
    if not truth.any():
        return math.nan
    ordered, order = probability.double().sort(descending=True)
    right = truth[order].double().cumsum(dim=0)
    last = torch.cat([ordered.diff() != 0, torch.tensor([True])])  # of the clips that share a probability
    recall = right[last] / right[-1]
    precision = right[last] / (torch.arange(len(ordered), dtype=torch.double)[last] + 1)
    return (recall.diff(prepend=torch.zeros(1, dtype=torch.double)) * precision).sum().item()


def _auc(probability: Tensor, truth: Tensor) -> float:
    """Share of the pairs of a clip with the class and one without it where the first is likelier; ties count half."""
    if truth.all() or not truth.any():
        return math.nan
    difference = probability[truth].double()[:, None] - probability[~truth].double()[None]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def _f1(active: Tensor, truth: Tensor) -> float:
    if not truth.any():
        return math.nan
    return 2 * (active & truth).sum().item() / (active.sum() + truth.sum()).item()
