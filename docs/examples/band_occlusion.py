"""An interpreter of one's own: how much the prediction loses when a frequency band is silenced.

Occlusion (Zeiler and Fergus, ECCV 2014), over bands of frequency. Nothing is trained.
"""

from itertools import pairwise

import torch

from interpreters.base import Interpreter, masked


class BandOcclusion(Interpreter):
    """Keep each band in proportion to the probability that the asked class loses without it.

    bands: number of equally wide frequency bands.
    """

    requires = frozenset()
    answers_any_class = True

    def __init__(self, info, bands: int = 16):
        super().__init__(info)
        self.bands = bands

    def interpret(self, classifier, spectrogram, evidence, target=None):
        """The most important band of each clip is kept whole, one that does not matter not at all."""
        log_magnitude = spectrogram.log_magnitude  # [B, T, F]
        edges = torch.linspace(0, log_magnitude.shape[2], self.bands + 1).round().int().tolist()
        target = self.asked_class(evidence, target)
        whole = evidence.probabilities.gather(1, target.unsqueeze(1))  # [B, 1]
        mask = torch.zeros_like(log_magnitude)
        for low, high in pairwise(edges):
            without = torch.ones_like(log_magnitude)
            without[:, :, low:high] = 0
            left = classifier(spectrogram.masked(without)).probabilities.gather(1, target.unsqueeze(1))
            mask[:, :, low:high] = (whole - left).clamp(min=0).unsqueeze(2)
        mask = mask / mask.amax(dim=(1, 2), keepdim=True).clamp(min=1e-8)
        return masked(spectrogram, mask, target)
