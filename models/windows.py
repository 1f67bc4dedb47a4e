"""Clips longer than a network takes: it hears windows of them, and what it says of these is pooled.

A window is a stretch of the clip's own frames, so a mask on the clip is a mask on what the network hears, and gradients
reach every frame that a window covers.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.errors import UsageError
from models.frontend import FrontEnd, Spectrogram
from models.labels import Labels

if TYPE_CHECKING:
    from models.classifier import AudioClassifier, ClassifierInfo, Evidence

POOLINGS = ("mean_probability", "max_probability", "mean_logit", "max_logit")
SETTINGS = ("seconds", "hop_seconds", "pooling")


@dataclass(frozen=True)
class WindowMaps:
    """The feature maps of a clip's windows, which lead to the logits; those of the whole clip are joined from them.

    maps: [B W, C, h, w], fine to coarse, the W windows of a clip one after another. join: from a plane [B W, C, h, w]
    to [B, C, H, w], in which a place is the mean of the windows that cover it.
    """

    maps: tuple[Tensor, ...]
    join: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Windows:
    """How a clip is cut into windows and how their answers are pooled.

    A clip of no more than one window is heard as it is. In a longer one, windows begin every `hop_seconds`; the last
    one begins earlier, so that it ends with the clip. Windows keep the level that they have in the clip.

    seconds: of a window. hop_seconds: from window to window, no more than `seconds`; None: side by side. pooling: one
    of `POOLINGS`, of each class over the windows. The mean of probabilities is what the windows say together. The
    maxima of probabilities are made to sum to 1 where one class is right. Pooled logits keep their scale and their
    gradient; the gradient of a probability vanishes in windows that are certain of the class.

    Raises UsageError for other values.
    """

    seconds: float
    hop_seconds: float | None = None
    pooling: str = "mean_probability"

    def __post_init__(self):
        if not _is_positive(self.seconds):
            raise UsageError(f"windows of seconds={self.seconds!r} cannot be: give a number above 0")
        if self.hop_seconds is not None and not (_is_positive(self.hop_seconds) and self.hop_seconds <= self.seconds):
            raise UsageError(
                f"hop_seconds={self.hop_seconds!r} must be above 0 and no more than the windows' seconds={self.seconds}"
            )
        if self.pooling not in POOLINGS:
            raise UsageError(f"pooling={self.pooling!r} is not one of {', '.join(POOLINGS)}")

    @classmethod
    def of(cls, settings: Mapping | None) -> "Windows | None":
        """From a recipe's mapping; None where it says null. Raises UsageError for other keys."""
        if settings is None:
            return None
        if not isinstance(settings, Mapping) or "seconds" not in settings or not set(settings) <= set(SETTINGS):
            shown = dict(settings) if isinstance(settings, Mapping) else settings
            raise UsageError(
                f"windows={shown!r} must be null, or a mapping with seconds, and hop_seconds and pooling if wanted, "
                "such as {seconds: 5, hop_seconds: 2.5, pooling: mean_logit}"
            )
        return cls(**settings)

    @property
    def keeps_logits(self) -> bool:
        """Whether pooled logits have the scale of the network's own."""
        return self.pooling.endswith("_logit")

    def hear(
        self, classify: Callable[[Spectrogram], "Evidence"], frontend: FrontEnd, spectrogram: Spectrogram
    ) -> "Evidence":
        """Evidence for B clips of any length from a network that hears windows.

        classify: from a Spectrogram of windows to their Evidence. The embedding is the mean over windows. Maps, those
        by design among them, are joined along time.
        """
        samples = round(self.seconds * frontend.sample_rate)
        if spectrogram.num_samples <= samples:
            return classify(spectrogram)
        clips, frames = spectrogram.log_magnitude.shape[:2]
        length = frontend.num_frames(samples)
        starts = self.starts(frames, length, frontend)
        answers = classify(spectrogram.stretches(starts, length, samples))
        features = answers.features
        join = partial(_join, clips=clips, starts=starts, length=length, frames=frames)

        def join_leading(plane: Tensor) -> Tensor:
            return join(features.joined(plane))  # a network may have joined its own maps before

        joined = replace(
            features,
            embedding=features.embedding.unflatten(0, (clips, -1)).mean(dim=1),
            maps=tuple(map(join, features.maps)),
            native_map=None if features.native_map is None else join(features.native_map),
            windows=WindowMaps(features.leading_maps, join_leading),
            earlier_maps=tuple(map(join, features.earlier_maps)),
        )
        logits = self.pool(answers.logits.unflatten(0, (clips, -1)), answers.labels)
        return replace(answers, logits=logits, features=joined)

    def starts(self, frames: int, length: int, frontend: FrontEnd) -> list[int]:
        """The first frame of each window of `length` frames in a clip of at least as many."""
        hop_seconds = self.seconds if self.hop_seconds is None else self.hop_seconds
        hop = max(1, round(hop_seconds * frontend.sample_rate / frontend.hop))
        last = frames - length
        return [min(number * hop, last) for number in range(1 + math.ceil(last / hop))]

    def pool(self, logits: Tensor, labels: Labels) -> Tensor:
        """[B, W, K] logits of windows to [B, K] float32 logits of clips. labels: what they mean."""
        match self.pooling:
            case "mean_logit":
                return logits.float().mean(dim=1)
            case "max_logit":
                return logits.float().amax(dim=1)
            case "mean_probability":
                return labels.mean_over(logits)
            case _:
                return labels.max_over(logits)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _join(plane: Tensor, clips: int, starts: list[int], length: int, frames: int) -> Tensor:
    """A plane [B W, C, h, w] of windows to [B, C, H, w] of clips, with rows about as long as those of the windows.

    A row of the clip is the mean of the windows' rows, weighted by the time that they share with it.
    """
    count = plane.shape[2]
    long = length / count  # frames of a window's row
    joined_count = round(frames / long)
    joined_long = frames / joined_count
    begin = torch.tensor(starts).unsqueeze(1) + long * torch.arange(count, dtype=torch.float64)
    begin = begin.flatten()
    rows = plane.unflatten(0, (clips, -1)).transpose(1, 2).flatten(2, 3)  # [B, C, W h, w]
    total = rows.new_zeros(*rows.shape[:2], joined_count, rows.shape[3])
    weight = rows.new_zeros(joined_count)
    # a window's row is less than twice as long as a clip's, so it reaches into three of them at most
    for reach in range(3):
        place = (begin / joined_long).long() + reach
        common = torch.minimum(begin + long, (place + 1) * joined_long) - torch.maximum(begin, place * joined_long)
        share = torch.where(place < joined_count, common.clamp(min=0), 0.0).to(rows)
        place = place.clamp(max=joined_count - 1).to(rows.device)
        total = total.index_add(2, place, rows * share.unsqueeze(1))
        weight = weight.index_add(0, place, share)
    return total / weight.unsqueeze(1)


class WindowedClassifier(nn.Module):
    """A classifier of one's own that hears longer clips in windows; `AudioClassifier` has its own setting for it.

    Arguments
    ---------
    classifier: any module that takes a Spectrogram and returns Evidence, with `frontend`, `describe` and `freeze`.
    windows: as `Windows.of` takes it.

    Raises UsageError for other windows, and for none.
    """

    def __init__(self, classifier: "AudioClassifier", windows: Mapping):
        super().__init__()
        settings = Windows.of(windows)
        if settings is None:
            raise UsageError("a WindowedClassifier needs windows, such as {seconds: 5}")
        self.classifier, self.windows, self.frontend = classifier, settings, classifier.frontend

    def forward(self, spectrogram: Spectrogram) -> "Evidence":
        """Evidence for a batch of clips of any length."""
        return self.windows.hear(self.classifier, self.frontend, spectrogram)

    def freeze(self) -> "WindowedClassifier":
        """As the classifier's own; returns itself."""
        self.classifier.freeze()
        return self.eval()

    def describe(self) -> "ClassifierInfo":
        """What the classifier says of itself; pooled probabilities are not on the scale of its logits."""
        info = self.classifier.describe()
        return info if self.windows.keeps_logits else replace(info, logit_scale=1.0)
