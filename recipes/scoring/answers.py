"""What a classifier says of clips whose labels are known, as rows of a table."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.labels import NO_CLASS, Labels
from recipes.scoring.table import ClipTable


def answer_table(labels: Labels, index: Sequence[int], probabilities: Tensor, truth: Tensor) -> ClipTable:
    """The answers to n clips, at these positions of the corpus.

    probabilities: [n, K]. truth: [n, K] bool. Where a clip has exactly one label it has one row: its label, the
    predicted class and that class's probability. Otherwise it has a row for each class that it has or that is heard in
    it, with the probability of that class; label or prediction is `NO_CLASS` where it has not, or is not heard.
    """
    return (
        _one_row_each(index, probabilities, truth)
        if labels.exclusive
        else _a_row_a_class(labels, index, probabilities, truth)
    )


def _one_row_each(index: Sequence[int], probabilities: Tensor, truth: Tensor) -> ClipTable:
    label, top = truth.long().argmax(dim=1), probabilities.max(dim=1)
    table = ClipTable()
    table.add(
        torch.tensor(index),
        label=label,
        prediction=top.indices,
        probability=top.values,
        acc=(label == top.indices).float(),
    )
    return table


def _a_row_a_class(labels: Labels, index: Sequence[int], probabilities: Tensor, truth: Tensor) -> ClipTable:
    heard = labels.active(probabilities)
    rows, classes = (truth | heard).nonzero(as_tuple=True)
    nothing = torch.full_like(classes, NO_CLASS)
    table = ClipTable()
    table.add(
        torch.tensor(index)[rows],
        label=torch.where(truth[rows, classes], classes, nothing),
        prediction=torch.where(heard[rows, classes], classes, nothing),
        probability=probabilities[rows, classes],
    )
    return table
