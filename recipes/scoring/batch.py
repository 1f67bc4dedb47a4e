"""Scoring explanations: from a batch of spectrograms to every per-clip number, and no classifier pass more."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from interpreters.base import Interpretation, Interpreter
from interpreters.ground_truth import Truth
from interpreters.metrics import (
    accuracy,
    average_drop,
    average_gain,
    average_increase,
    complexity,
    faithfulness,
    fidelity_to_input,
    kept_fraction,
    sparseness,
)
from models.classifier import AudioClassifier, Evidence
from models.frontend import Spectrogram
from recipes.data.contamination import Mixture

SPLIT_FLOOR_DB = -100.0


@dataclass
class Cost:
    """Seconds that explaining some clips took: from the classifier's evidence to the first interpretation."""

    seconds: float = 0.0
    clips: int = 0

    @property
    def seconds_per_clip(self) -> float:
        return self.seconds / max(self.clips, 1)


@torch.no_grad()
def score_batch(
    classifier: AudioClassifier,
    interpreter: Interpreter,
    spectrogram: Spectrogram,
    label: Tensor,
    logit_scale: float = 1.0,
    mixture: Mixture | None = None,
    cost: Cost | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Per-clip columns of every setting of the interpreter's sweep, by 1 + 2Q classifier passes.

    label [B]. logit_scale: `ClassifierInfo.logit_scale`; other than 1 it adds `fa_raw_cosine`, the faithfulness under
    a softmax of raw cosines, which is what the FocalNet paper's Table 1 holds. mixture: the parts of these clips where
    both are labelled; it adds the scores of `interpreters.ground_truth`. cost: adds up the time that explaining takes.
    Each yielded column is a CPU tensor [B].
    """
    evidence = classifier(spectrogram)
    top = evidence.probabilities.max(dim=1)
    whole = {"label": label, "prediction": top.indices, "probability": top.values}
    whole["acc"] = accuracy(evidence.probabilities, label)
    truth = None
    if mixture is not None:
        labels = torch.stack((label, mixture.added_label), dim=1)
        sounds = mixture.clip, mixture.added
        truth = Truth.of(classifier.frontend, mixture.batch.waveform, *sounds, labels, evidence.prediction)
    sweep = interpreter.sweep(classifier, spectrogram, evidence)
    started = _now(label)
    first = next(sweep)
    if cost is not None:
        cost.seconds, cost.clips = cost.seconds + _now(label) - started, cost.clips + len(label)
    for interpretation in itertools.chain([first], sweep):
        relevant, residual = classifier(interpretation.relevant), classifier(interpretation.residual)
        scores = compare(evidence, relevant, residual) | describe_mask(interpretation)
        scores["split_db"] = split_error(classifier, spectrogram, interpretation)
        if logit_scale != 1:
            cosines = [Evidence(one.logits / logit_scale, one.features) for one in (evidence, residual)]
            scores["fa_raw_cosine"] = faithfulness(*(one.probabilities for one in cosines))
        if truth is not None:
            relevant_sound = classifier.frontend.synthesize(interpretation.relevant)
            scores |= truth.scores(interpretation.mask, relevant_sound, interpretation.importance)
        yield {name: column.cpu() for name, column in (whole | scores).items()}


def _now(tensor: Tensor) -> float:
    """Seconds of a monotonic clock, once the tensor's device has done its work."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


def compare(evidence: Evidence, relevant: Evidence, residual: Evidence) -> dict[str, Tensor]:
    """FID-I, FA, AI, AD and AG, each [B], from the evidence on the input and on its two parts."""
    whole, kept, removed = (one.probabilities for one in (evidence, relevant, residual))
    return {
        "fid_i": fidelity_to_input(whole, kept),
        "fa": faithfulness(whole, removed),
        "ai": average_increase(whole, kept),
        "ad": average_drop(whole, kept),
        "ag": average_gain(whole, kept),
    }


def split_error(classifier: AudioClassifier, spectrogram: Spectrogram, parts: Interpretation) -> Tensor:
    """[B] energy in dB of relevant + residual - input over the input's, not below `SPLIT_FLOOR_DB`.

    A mask on log1p magnitudes splits those, a mask on the sound splits that: the smaller error of the two.
    """
    error = _level(
        parts.relevant.log_magnitude + parts.residual.log_magnitude - spectrogram.log_magnitude,
        spectrogram.log_magnitude,
    )
    if (error > SPLIT_FLOOR_DB).any():
        sound, *halves = map(classifier.frontend.synthesize, (spectrogram, parts.relevant, parts.residual))
        error = torch.minimum(error, _level(sum(halves) - sound, sound))
    return error


def _level(difference: Tensor, whole: Tensor) -> Tensor:
    energies = (one.double().square().flatten(1).sum(dim=1) for one in (difference, whole))
    ratio = torch.nan_to_num(next(energies) / next(energies))  # silence splits into silence
    return 10 * ratio.clamp(min=10 ** (SPLIT_FLOOR_DB / 10)).log10()


def describe_mask(interpretation: Interpretation) -> dict[str, Tensor]:
    """Sparseness, complexity and kept fraction of the mask, each [B]; NaN where undefined."""
    mask = interpretation.mask
    return {"sps": sparseness(mask), "comp": complexity(mask), "kept": kept_fraction(mask)}
