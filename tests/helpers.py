"""Small functions that tests of several rooms share."""

from collections.abc import Callable

import pytest
import torch.nn.functional as F
from torch import nn

from models.classifier import ClassifierInfo, Evidence, Features
from models.errors import UsageError
from models.frontend import FrontEnd


def refusal(call: Callable, *args: object, **options: object) -> str:
    """The sentence of the UsageError with which a call refuses its arguments."""
    with pytest.raises(UsageError) as caught:
        call(*args, **options)
    return str(caught.value)


class Conforming(nn.Module):
    """The smallest classifier that may stand in: two maps, a native map, three classes; no AudioClassifier."""

    def __init__(self):
        super().__init__()
        self.frontend = FrontEnd(8000, 256, 32, 16)
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, spectrogram):
        fine = self.conv(F.adaptive_avg_pool2d(spectrogram.log_magnitude.unsqueeze(1), (8, 4))).relu()
        coarse = F.avg_pool2d(fine, 2)
        embedding = coarse.mean(dim=(2, 3))
        features = Features(embedding, (fine, coarse), coarse.mean(dim=1, keepdim=True))
        return Evidence(self.head(embedding), features)

    def freeze(self):
        return self.eval().requires_grad_(False)

    def describe(self):
        return ClassifierInfo(3, 8000, 256, (4, 4), frozenset({"gradient", "maps", "native_map"}))
