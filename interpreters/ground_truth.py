"""Scores of explanations where the truth is known: mixtures of two labelled sounds.

A right explanation of a mixture keeps the sound of the explained class. In every bin, the ideal ratio mask is
|S| / (|S| + |R|), with S that sound's STFT and R the other's; *ideal* is where it is at least 0.5. Bins that carry no
energy say nothing, so only *audible* ones count: those where the louder of |S| and |R| is less than `FLOOR_DB` below
the clip's loudest bin. Every score is [B], and NaN where it is undefined; larger is better.

Sources: D. Wang, On Ideal Binary Mask as the Computational Goal of Auditory Scene Analysis, 2005; J. Zhang et al.,
Top-down Neural Attention by Excitation Backprop, 2016 (pointing game); H. Wang et al., Score-CAM, 2020 (its
energy-based form); J. Le Roux et al., SDR - half-baked or well done?, 2019.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.frontend import FrontEnd

FLOOR_DB = 40.0  # a Hamming window's side lobes are 43 dB down: below lies what the loudest bin leaks
SI_SDR_LIMIT_DB = 100.0


@dataclass(frozen=True)
class Truth:
    """What a right explanation of B mixtures keeps.

    mixture, source: [B, N], the whole and the sound of the explained class at its level in the mixture.
    ideal, audible: [B, T, F] bool. known: [B] bool, False where no sound is of the explained class.
    """

    mixture: Tensor
    source: Tensor
    ideal: Tensor
    audible: Tensor
    known: Tensor

    @classmethod
    def of(cls, frontend: FrontEnd, mixture: Tensor, sounds: Tensor, labels: Tensor, target: Tensor) -> "Truth":
        """From mixtures [B, N], the labelled sounds [B, S, N] in them, their labels [B, S] and the explained class [B].

        What is in the mixture beside the source is the rest, noise that bears no label too.
        """
        named = labels == target[:, None]  # [B, S]
        source = (sounds * named[:, :, None]).sum(dim=1)
        of_source, of_rest = (frontend.analyze(sound).magnitude for sound in (source, mixture - source))
        louder = torch.maximum(of_source, of_rest)
        floor = louder.amax(dim=(1, 2), keepdim=True) * 10 ** (-FLOOR_DB / 20)
        return cls(mixture, source, of_source >= of_rest, louder > floor, named.any(dim=1))

    def scores(self, mask: Tensor, relevant: Tensor, importance: Tensor) -> dict[str, Tensor]:
        """Every score, each [B], of a mask [B, T, F] in [0, 1] and the sound [B, N] of the relevant part.

        importance: [B, T, F], the map that the mask was cut from, or the mask itself. `iou` is of the mask; `ap`,
        `pointing` and `inside` are of the map, lest they depend on where it was cut. `si_sdri` is the relevant sound's
        SI-SDR less that of the mixture, both towards the source, in dB.
        """
        scores = {
            "iou": intersection_over_union(mask, self.ideal, self.audible),
            "ap": average_precision(importance, self.ideal, self.audible),
            "pointing": pointing_game(importance, self.ideal, self.audible),
            "inside": energy_inside(importance, self.ideal, self.audible),
            "si_sdri": si_sdr(relevant, self.source) - si_sdr(self.mixture, self.source),
        }
        return {name: score.masked_fill(~self.known, torch.nan).float() for name, score in scores.items()}


def intersection_over_union(mask: Tensor, ideal: Tensor, audible: Tensor) -> Tensor:
    """sum min(mask, ideal) / sum max(mask, ideal): IoU of binary masks, Ruzicka's index of soft ones."""
    pair = mask.double() * audible, (ideal & audible).double()
    return torch.minimum(*pair).sum(dim=(1, 2)) / torch.maximum(*pair).sum(dim=(1, 2))


def average_precision(importance: Tensor, ideal: Tensor, audible: Tensor) -> Tensor:
    """Area under precision over recall as bins are taken in the order of importance; equal bins are taken at once.

    A map that tells nothing has the share of ideal bins.
    """
    values, order = importance.flatten(1).sort(dim=1, descending=True)
    right = (ideal & audible).flatten(1).gather(1, order).double()
    taken = audible.flatten(1).gather(1, order).double().cumsum(dim=1)
    last = torch.searchsorted(-values, -values, right=True) - 1  # of the bins equal to this one
    precision = (right.cumsum(dim=1) / taken.clamp(min=1)).gather(1, last)
    return (right * precision).sum(dim=1) / right.sum(dim=1)


def pointing_game(importance: Tensor, ideal: Tensor, audible: Tensor) -> Tensor:
    """1 where the most important bin is ideal, else 0; of several equal ones, the share that is."""
    heard = importance.masked_fill(~audible, -torch.inf)
    top = (heard == heard.amax(dim=(1, 2), keepdim=True)) & audible
    return (top & ideal).sum(dim=(1, 2)).double() / top.sum(dim=(1, 2))


def energy_inside(importance: Tensor, ideal: Tensor, audible: Tensor) -> Tensor:
    """Share of what is positive in the importance that lies on ideal bins. Undefined where nothing is."""
    heard = importance.double().clamp(min=0) * audible
    return (heard * ideal).sum(dim=(1, 2)) / heard.sum(dim=(1, 2))


def si_sdr(estimate: Tensor, source: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of [B, N] to [B, N] in dB, within +-100. Undefined for silence."""
    estimate, source = estimate.double(), source.double()
    gain = (estimate * source).sum(dim=1, keepdim=True) / source.square().sum(dim=1, keepdim=True)
    distortion = (estimate - gain * source).square().sum(dim=1)
    ratio = (gain * source).square().sum(dim=1) / distortion
    return (10 * ratio.log10()).clamp(-SI_SDR_LIMIT_DB, SI_SDR_LIMIT_DB)
