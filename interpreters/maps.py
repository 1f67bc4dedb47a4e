"""From a map of importance to a mask, and the maps by design: modulation (FocalNet) and attention (ViT).

Della Libera et al., arXiv 2402.02754, section 2.4, equation (5): M = 1 where the map is at least its q-quantile.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from interpreters.base import Interpretation, Interpreter, masked
from interpreters.interpolation import resize_map
from models.classifier import AudioClassifier, ClassifierInfo, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram


def quantile_thresholds(maps: Tensor, quantiles: Sequence[float]) -> Tensor:
    """[Q, B] quantiles of every clip's map [B, T, F], interpolated linearly as `torch.quantile` does, in one sort.

    `torch.quantile` itself refuses more than 16 million elements, which is 75 clips of 5 s.
    """
    ordered = _ordered(maps.flatten(1))
    last = ordered.shape[1] - 1
    position = torch.tensor(quantiles, dtype=torch.float64, device=maps.device) * last
    below = position.floor().long().clamp(max=last)
    above = (below + 1).clamp(max=last)
    return torch.lerp(ordered[:, below], ordered[:, above], (position - below).to(ordered)).T


def _ordered(values: Tensor) -> Tensor:
    """Every row of [B, N] from its smallest value on. On a CPU by NumPy, which takes a tenth of torch's time."""
    if values.device.type != "cpu" or values.dtype is torch.bfloat16:
        return values.sort(dim=1).values
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=1))


def soft_mask(maps: Tensor) -> Tensor:
    """Every clip's map [B, T, F] from its smallest value to its largest, brought to [0, 1].

    Where a map speaks both for and against the class, it starts at 0 instead: what is negative is not kept. A constant
    map gives 1, as every quantile of it does.
    """
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    low = torch.where(high > 0, low.clamp(min=0), low)
    return torch.where(high > low, (maps - low) / (high - low), 1.0).clamp(0, 1)


def clip_seed(clip: Tensor, seed: int) -> int:
    """The seed of the draws that concern one clip [T, F]: it follows from the content, whatever batch it comes in.

    The mean is rounded, because a clip's last bits may differ between batches; two clips may share a seed.
    """
    return seed + round(1e4 * clip.double().mean().item())


class MapInterpreter(Interpreter):
    """Base of the methods that give every time-frequency bin an importance; a subclass supplies `importance` alone.

    Bins whose importance is at least its q-quantile in that clip are kept, so about 1 - q of the plane is, more where
    values tie, and all of it where the map is constant. Without a quantile the mask is `soft_mask` of the map.

    Arguments
    ---------
    quantile: q in [0, 1], or several: `sweep` then yields one interpretation for each in the given order, and
        `interpret` uses 0.9 (the paper's) if it is among them, otherwise the first. None: the soft mask.

    Raises UsageError for a quantile outside [0, 1] or an empty list.
    """

    def __init__(self, info: ClassifierInfo, quantile: float | Sequence[float] | None = 0.9):
        super().__init__(info)
        if quantile is None:
            self.quantiles = ()
        else:
            self.quantiles = tuple(quantile) if isinstance(quantile, Sequence) else (quantile,)
        in_range = all(isinstance(q, int | float) and 0 <= q <= 1 for q in self.quantiles)
        if not in_range or (quantile is not None and not self.quantiles):
            raise UsageError(
                f"quantile={quantile!r} must be a number in [0, 1] or a list of them, or null: a soft mask"
            )

    @property
    def headline(self) -> float:
        """The quantile that `interpret` uses."""
        return 0.9 if 0.9 in self.quantiles else self.quantiles[0]

    @abstractmethod
    def importance(
        self, classifier: AudioClassifier, spectrogram: Spectrogram, evidence: Evidence, target: Tensor | None = None
    ) -> Tensor:
        """The importance [B, T, F] of every bin for the target [B] (None: the predicted class), any sign and scale."""

    def interpret(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        importance = self.importance(classifier, spectrogram, evidence, target)
        quantiles = (self.headline,) if self.quantiles else ()
        return next(_cut(spectrogram, importance, target, quantiles))

    def sweep(self, classifier, spectrogram, evidence, target=None):
        target = self.asked_class(evidence, target)
        importance = self.importance(classifier, spectrogram, evidence, target)
        yield from _cut(spectrogram, importance, target, self.quantiles)


def _cut(
    spectrogram: Spectrogram, importance: Tensor, target: Tensor, quantiles: tuple[float, ...]
) -> Iterator[Interpretation]:
    """An interpretation by the soft mask of a map [B, T, F], or one by a binary mask for each of the quantiles."""
    dtype = spectrogram.log_magnitude.dtype
    if not quantiles:
        yield masked(spectrogram, soft_mask(importance).to(dtype), target, importance)
        return
    for threshold in quantile_thresholds(importance, quantiles):
        mask = (importance >= threshold[:, None, None]).to(dtype)
        yield masked(spectrogram, mask, target, importance)


class QuantileMap(MapInterpreter):
    """The classifier's native map, brought to [T, F] before it becomes a mask. Training-free, it asks for no class.

    Arguments
    ---------
    map: the map that is meant, such as "modulation" or "attention"; None: whichever the classifier has.
    layer: whose map, of the layers that have one: 0 is the first, -1 the last, which is the paper's.

    Raises UsageError for a classifier whose native map is another one, and for a layer that it has not, beside what
    `MapInterpreter` refuses.
    """

    requires = frozenset({"native_map"})

    def __init__(
        self,
        info: ClassifierInfo,
        quantile: float | Sequence[float] | None = 0.9,
        map: str | None = None,
        layer: int = -1,
    ):
        super().__init__(info, quantile)
        if map is not None and info.map_name not in (None, map):
            raise UsageError(
                f"the {map} map is asked for, and this classifier's own is its {info.map_name} map: take "
                f"hparams/{info.map_name}.yaml, or a classifier whose own is the {map} map"
            )
        layers = 1 + info.earlier_maps
        if not isinstance(layer, int) or not -layers <= layer < layers:
            raise UsageError(
                f"layer={layer!r} must be a whole number from {-layers} to {layers - 1}: this classifier has maps of "
                f"its own in {layers} of its layers"
            )
        self.layer = layer

    def importance(self, classifier, spectrogram, evidence, target=None):
        self.asked_class(evidence, target)
        maps = evidence.features.layer_maps[self.layer]
        # A shift moves the quantiles with it, and a constant map survives the rounding of interpolation at 0 only.
        return resize_map(maps - maps.amin(dim=(2, 3), keepdim=True), *spectrogram.log_magnitude.shape[1:])
