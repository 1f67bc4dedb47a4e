"""Thresholded saliency maps: the modulation map of FocalNet and the attention map of ViT.

Della Libera et al., arXiv 2402.02754, section 2.4, equation (5): M = 1 where the map is at least its q-quantile.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from interpreters.base import Interpretation, Interpreter, masked
from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram


def resize_map(maps: Tensor, frames: int, bins: int) -> Tensor:
    """[B, 1, h, w] to [B, frames, bins] by bilinear interpolation in float32."""
    return F.interpolate(maps.float(), (frames, bins), mode="bilinear", align_corners=False).squeeze(1)


def quantile_thresholds(maps: Tensor, quantiles: Sequence[float]) -> Tensor:
    """[Q, B] quantiles of every clip's map [B, T, F], interpolated linearly as `torch.quantile` does, in one sort.

    `torch.quantile` itself refuses more than 16 million elements, which is 75 clips of 5 s.
    """
    ordered = maps.flatten(1).sort(dim=1).values  # [B, T F]
    last = ordered.shape[1] - 1
    position = torch.tensor(quantiles, dtype=torch.float64, device=maps.device) * last
    below = position.floor().long().clamp(max=last)
    above = (below + 1).clamp(max=last)
    return torch.lerp(ordered[:, below], ordered[:, above], (position - below).to(ordered)).T


class QuantileMap(Interpreter):
    """Keep the time-frequency bins where the classifier's own saliency map is in its upper quantile.

    The map is brought to [T, F] first; then bins with map >= its q-quantile are kept, so about 1 - q of the plane is
    (all of it where the map is constant). Training-free.

    Arguments
    ---------
    quantile: q in [0, 1], or several: `sweep` then yields one interpretation for each in the given order, and
        `interpret` uses 0.9 (the paper's) if it is among them, otherwise the first.

    Raises UsageError for a quantile outside [0, 1] or none at all.
    """

    requires = frozenset({"saliency"})

    def __init__(self, info: ClassifierInfo, quantile: float | Sequence[float] = 0.9):
        super().__init__(info)
        self.quantiles = tuple(quantile) if isinstance(quantile, Sequence) else (quantile,)
        if not self.quantiles or not all(isinstance(q, int | float) and 0 <= q <= 1 for q in self.quantiles):
            raise UsageError(f"quantile={quantile!r} must be a number in [0, 1] or a list of them")

    @property
    def headline(self) -> float:
        """The quantile that `interpret` uses."""
        return 0.9 if 0.9 in self.quantiles else self.quantiles[0]

    def saliency(self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence) -> Tensor:
        """The map [B, T, F] that is thresholded; subclasses replace this alone."""
        maps = evidence.features.saliency
        # A shift moves the quantiles with it, and a constant map survives the rounding of interpolation at 0 only.
        return resize_map(maps - maps.amin(dim=(2, 3), keepdim=True), *spectrogram.log_magnitude.shape[1:])

    def interpret(self, classifier, spectrogram, evidence):
        return next(self._at((self.headline,), classifier, spectrogram, evidence))

    def sweep(self, classifier, spectrogram, evidence):
        return self._at(self.quantiles, classifier, spectrogram, evidence)

    def _at(
        self,
        quantiles: tuple[float, ...],
        classifier: AudioClassifier,
        spectrogram: Spectrogram,
        evidence: Evidence,
    ) -> Iterator[Interpretation]:
        saliency = self.saliency(classifier, spectrogram, evidence)
        for threshold in quantile_thresholds(saliency, quantiles):
            mask = (saliency >= threshold[:, None, None]).to(spectrogram.log_magnitude.dtype)
            yield masked(spectrogram, mask, evidence)
