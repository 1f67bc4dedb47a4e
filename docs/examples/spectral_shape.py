"""A classifier of one's own: any module that takes a Spectrogram and returns Evidence.

It knows neither a Brain nor a data set. `frontend`, `describe` and `freeze` are all that the recipes ask of it.
"""

import torch
from torch import nn

from models.classifier import ClassifierInfo, Evidence, Features
from models.frontend import FrontEnd, Spectrogram


class SpectralShape(nn.Module):
    """Two convolutions over time and frequency, and the mean and deviation of what they find."""

    def __init__(self, frontend: FrontEnd, num_classes: int, channels: int = 16):
        super().__init__()
        self.frontend, self.num_classes, self.channels = frontend, num_classes, channels
        self.first = nn.Conv2d(1, channels, 5, stride=4, padding=2)
        self.second = nn.Conv2d(channels, 2 * channels, 5, stride=4, padding=2)
        self.head = nn.Linear(4 * channels, num_classes)

    def forward(self, spectrogram: Spectrogram) -> Evidence:
        fine = self.first(spectrogram.log_magnitude.unsqueeze(1)).relu()  # [B, C, h, w], h along time
        coarse = self.second(fine).relu()
        spread = coarse.flatten(2).var(dim=2).add(1e-6).sqrt()
        embedding = torch.cat((coarse.mean(dim=(2, 3)), spread), dim=1)
        return Evidence(self.head(embedding), Features(embedding, maps=(fine, coarse)))

    def describe(self) -> ClassifierInfo:
        return ClassifierInfo(
            num_classes=self.num_classes,
            sample_rate=self.frontend.sample_rate,
            n_fft=self.frontend.n_fft,
            map_channels=(self.channels, 2 * self.channels),
            provides=frozenset({"gradient", "maps"}),
            provenance="from scratch",
        )

    def freeze(self) -> "SpectralShape":
        return self.eval().requires_grad_(False)
