"""Scores of explanations as binary masks of fixed areas, under three ways of removing the rest of the sound."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from interpreters.fixed_area import equal_energy, top_share
from interpreters.ground_truth import Truth, average_precision, intersection_over_union, pointing_game
from interpreters.metrics import average_drop, average_increase, faithfulness, fidelity_to_input
from interpreters.removal import filled
from models.classifier import AudioClassifier, Evidence
from models.errors import UsageError
from models.frontend import Spectrogram

KINDS_OF_CLIPS = ("clean", "mixture_0dB")
REMOVALS = ("silence", "noise_floor", "another_clip")
AREAS = (0.05, 0.1, 0.2, 0.3)
HEADLINE = 0.2
"""The area at which every removal, and the control of equal log energy, is scored."""

FAITHFULNESS = ("fid_i", "fa", "ai", "ad")
EQUAL_ENERGY = ("fid_i_equal_energy", "fa_equal_energy")
OF_MASK = (*FAITHFULNESS, "iou", *EQUAL_ENERGY)
"""Scores of a mask, so of a setting; those in `OF_MAP` are of the map that it was cut from."""
OF_MAP = ("ap", "pointing")


@dataclass(frozen=True)
class Setting:
    """An area in (0, 1], and what takes the place of what is removed, one of `REMOVALS`.

    Raises UsageError for anything else.
    """

    area: float
    removal: str

    def __post_init__(self):
        if not 0 < self.area <= 1:
            raise UsageError(f"area={self.area} must be above 0 and at most 1")
        if self.removal not in REMOVALS:
            raise UsageError(f"removal={self.removal!r} must be one of {', '.join(REMOVALS)}")


@dataclass(frozen=True)
class Heard:
    """B clips as a classifier heard them.

    fillings: for each removal but silence what fills the rest, of the clips' shape. truth: of mixtures of two labelled
    clips; None where the sources are not known.
    """

    spectrogram: Spectrogram
    evidence: Evidence
    fillings: dict[str, Spectrogram]
    truth: Truth | None = None


def settings_of(areas: Sequence[float] = AREAS, headline: float = HEADLINE) -> list[Setting]:
    """Every area under silence, and the headline's under the other removals."""
    settings = [Setting(area, "silence") for area in areas]
    for removal in REMOVALS[1:]:
        settings.append(Setting(headline, removal))
    return settings


def shown(heard: Heard, mask: Tensor, removal: str) -> Spectrogram:
    """What a mask [B, T, F] shows of the clips, with the rest removed."""
    if removal == "silence":
        return heard.spectrogram.masked(mask)
    return filled(heard.spectrogram, mask, heard.fillings[removal])


def score_mask(classifier: AudioClassifier, heard: Heard, mask: Tensor, removal: str) -> dict[str, Tensor]:
    """`FAITHFULNESS`, each [B], by two classifier passes, and `iou` where the sources are known."""
    whole = heard.evidence.probabilities
    kept = classifier(shown(heard, mask, removal)).probabilities
    removed = classifier(shown(heard, 1 - mask, removal)).probabilities
    scores = {
        "fid_i": fidelity_to_input(whole, kept),
        "fa": faithfulness(whole, removed),
        "ai": average_increase(whole, kept),
        "ad": average_drop(whole, kept),
    }
    if heard.truth is not None:
        overlap = intersection_over_union(mask, heard.truth.ideal, heard.truth.audible)
        scores["iou"] = overlap.masked_fill(~heard.truth.known, math.nan)
    return scores


@torch.no_grad()
def score_importance(
    classifier: AudioClassifier,
    heard: Heard,
    importance: Tensor,
    settings: Sequence[Setting],
    cut: Callable[[Tensor, float], Tensor] = top_share,
) -> dict[Setting, dict[str, Tensor]]:
    """For every setting, the scores of the masks that are cut from a map, each [B].

    importance: [B, T, F]. cut: from a map and an area to masks [B, T, F]. At the headline's area under silence the
    loudest bins that hold as much log energy as the mask are scored beside it.
    """
    of_map = score_map(heard, importance)
    mask_of, scores = {}, {}
    for setting in settings:
        if setting.area not in mask_of:
            mask_of[setting.area] = cut(importance, setting.area)
        mask = mask_of[setting.area]
        columns = score_mask(classifier, heard, mask, setting.removal) | of_map
        if setting == Setting(HEADLINE, "silence"):
            louder = equal_energy(heard.spectrogram.log_magnitude, mask)
            of_control = score_mask(classifier, heard, louder, setting.removal)
            columns |= {"fid_i_equal_energy": of_control["fid_i"], "fa_equal_energy": of_control["fa"]}
        scores[setting] = columns
    return scores


def score_map(heard: Heard, importance: Tensor) -> dict[str, Tensor]:
    """`OF_MAP`, each [B] and NaN where the classifier names neither source; nothing where the sources are not known."""
    if heard.truth is None:
        return {}
    ideal, audible, unknown = heard.truth.ideal, heard.truth.audible, ~heard.truth.known
    return {
        "ap": average_precision(importance, ideal, audible).masked_fill(unknown, math.nan),
        "pointing": pointing_game(importance, ideal, audible).masked_fill(unknown, math.nan),
    }
