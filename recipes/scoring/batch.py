"""Scoring explanations: from a batch of spectrograms to every per-clip number, and no classifier pass more."""

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
from models.errors import UsageError
from models.frontend import Spectrogram
from recipes.data.contamination import Mixture
from recipes.scoring.explanation import Explanation

SPLIT_FLOOR_DB = -100.0


@dataclass
class Cost:
    """Seconds that explaining some clips took: from the classifier's evidence to the first interpretation."""

    seconds: float = 0.0
    clips: int = 0

    @property
    def seconds_per_clip(self) -> float:
        return self.seconds / max(self.clips, 1)


@dataclass(frozen=True)
class LabelledClips:
    """A batch of clips to explain, as the classifier hears them, with what is known of them.

    label: [B] class indices. mixture: the parts of these clips where both are labelled, else None.
    """

    spectrogram: Spectrogram
    label: Tensor
    mixture: Mixture | None = None

    def __len__(self) -> int:
        return len(self.label)


@torch.no_grad()
def score_batch(
    classifier: AudioClassifier,
    interpreter: Interpreter,
    clips: LabelledClips,
    logit_scale: float = 1.0,
    cost: Cost | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Per-clip columns of every setting of the interpreter's sweep, by 1 + 2Q classifier passes.

    logit_scale: `ClassifierInfo.logit_scale`; other than 1 it adds `fa_raw_cosine`, the faithfulness under a softmax
    of raw cosines, which is what the FocalNet paper's Table 1 holds. Clips with a `mixture` also get the scores of
    `interpreters.ground_truth`, and trained methods those of `relevant_scores`. cost: adds up the time that explaining
    takes.
    Each yielded column is a CPU tensor [B]; label and predictions are class indices. Raises UsageError where the
    classifier or the interpreter gives NaN or infinite numbers.
    """
    spectrogram = clips.spectrogram
    evidence = classifier(spectrogram)
    _check_finite("the classifier's probabilities", evidence.probabilities)
    truth = None if clips.mixture is None else _truth(classifier, evidence, clips.label, clips.mixture)
    whole = _describe_prediction(evidence, clips.label)
    for interpretation in _timed(interpreter.sweep(classifier, spectrogram, evidence), clips.label, cost):
        _check_finite(f"masks of {type(interpreter).__name__}", interpretation.mask)
        _check_finite(f"importances of {type(interpreter).__name__}", interpretation.importance)
        relevant, residual = classifier(interpretation.relevant), classifier(interpretation.residual)
        _check_finite("the classifier's probabilities on the relevant part", relevant.probabilities)
        _check_finite("the classifier's probabilities on the residual part", residual.probabilities)
        scores = part_scores(evidence, relevant, residual) | mask_scores(interpretation.mask)
        scores["relevant_prediction"], scores["residual_prediction"] = relevant.prediction, residual.prediction
        scores["split_db"] = split_error(classifier, spectrogram, interpretation)
        if interpreter.trainable:
            scores |= relevant_scores(interpretation.relevant.log_magnitude)
        if logit_scale != 1:
            cosines, residual_cosines = _raw_cosines(evidence, logit_scale), _raw_cosines(residual, logit_scale)
            scores["fa_raw_cosine"] = faithfulness(cosines.probabilities, residual_cosines.probabilities)
        if truth is not None:
            relevant_sound = classifier.frontend.synthesize(interpretation.relevant)
            scores |= truth.scores(interpretation.mask, relevant_sound, interpretation.importance)
        yield {name: column.cpu() for name, column in (whole | scores).items()}


def _describe_prediction(evidence: Evidence, label: Tensor) -> dict[str, Tensor]:
    """What the classifier says of the whole input."""
    probability, prediction = evidence.probabilities.max(dim=1)
    correct = accuracy(evidence.probabilities, label)
    return {"label": label, "prediction": prediction, "probability": probability, "acc": correct}


def _truth(classifier: AudioClassifier, evidence: Evidence, label: Tensor, mixture: Mixture) -> Truth:
    """What a right explanation of these mixtures keeps."""
    labels = torch.stack((label, mixture.added_label), dim=1)
    waveform = mixture.batch.waveform
    return Truth.of(classifier.frontend, waveform, mixture.clip, mixture.added, labels, evidence.prediction)


def _raw_cosines(evidence: Evidence, logit_scale: float) -> Evidence:
    """The evidence of a classifier whose logits are cosines times a scale, without the scale."""
    return Evidence(evidence.logits / logit_scale, evidence.features)


def _timed(sweep: Iterator[Interpretation], label: Tensor, cost: Cost | None) -> Iterator[Interpretation]:
    """The interpretations of a sweep. The time that the first one takes is added to the cost."""
    started = _now(label)
    first = next(sweep)
    if cost is not None:
        cost.seconds += _now(label) - started
        cost.clips += len(label)
    yield first
    yield from sweep


def _check_finite(name: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise UsageError(
            f"{name} are NaN or infinite on test clips: pass --eval_precision=fp32, or train again with a lower "
            "learning rate"
        )


def _now(tensor: Tensor) -> float:
    """Seconds of a monotonic clock, once the tensor's device has done its work."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


def part_scores(evidence: Evidence, relevant: Evidence, residual: Evidence) -> dict[str, Tensor]:
    """FID-I, FA, AI, AD and AG, each [B], from the evidence on the input and on its two parts."""
    return probability_scores(evidence.probabilities, relevant.probabilities, residual.probabilities)


def probability_scores(p_input: Tensor, p_relevant: Tensor, p_residual: Tensor) -> dict[str, Tensor]:
    """FID-I, FA, AI, AD and AG, each [B], from probabilities [B, K] on the input and on its two parts."""
    return {
        "fid_i": fidelity_to_input(p_input, p_relevant),
        "fa": faithfulness(p_input, p_residual),
        "ai": average_increase(p_input, p_relevant),
        "ad": average_drop(p_input, p_relevant),
        "ag": average_gain(p_input, p_relevant),
    }


def split_error(classifier: AudioClassifier, spectrogram: Spectrogram, parts: Interpretation) -> Tensor:
    """[B] energy in dB of relevant + residual - input over the input's, not below `SPLIT_FLOOR_DB`.

    A mask on log1p magnitudes splits those, a mask on the sound splits that: the smaller error of the two.
    """
    whole = spectrogram.log_magnitude
    error = _level_db(parts.relevant.log_magnitude + parts.residual.log_magnitude - whole, whole)
    if (error > SPLIT_FLOOR_DB).any():
        synthesize = classifier.frontend.synthesize
        sound, relevant, residual = synthesize(spectrogram), synthesize(parts.relevant), synthesize(parts.residual)
        error = torch.minimum(error, _level_db(relevant + residual - sound, sound))
    return error


def _level_db(difference: Tensor, whole: Tensor) -> Tensor:
    """[B] energy of a difference in dB of the whole's, not below `SPLIT_FLOOR_DB`; silence splits into silence."""
    energy = difference.double().square().flatten(1).sum(dim=1)
    ratio = torch.nan_to_num(energy / whole.double().square().flatten(1).sum(dim=1))
    return 10 * ratio.clamp(min=10 ** (SPLIT_FLOOR_DB / 10)).log10()


def mask_scores(mask: Tensor) -> dict[str, Tensor]:
    """Sparseness, complexity and kept fraction of a mask [B, T, F], each [B]; NaN where undefined."""
    return {"sps": sparseness(mask), "comp": complexity(mask), "kept": kept_fraction(mask)}


def relevant_scores(log_magnitude: Tensor) -> dict[str, Tensor]:
    """Sparseness and complexity [B] of the relevant part's log1p magnitude [B, T, F], as lmac-td-code has them."""
    return {"sps_relevant": sparseness(log_magnitude), "comp_relevant": complexity(log_magnitude)}


def explanation_scores(explanation: Explanation) -> dict[str, float]:
    """FID-I, FA, AI, AD and AG of the predicted class, and what describes the mask, of one sound.

    Probabilities are averaged over the sound's windows before they are compared.
    """
    means = []
    for probabilities in (
        explanation.probabilities,
        explanation.relevant_probabilities,
        explanation.residual_probabilities,
    ):
        means.append(torch.from_numpy(explanation.mean(probabilities))[None])
    scores = probability_scores(*means) | mask_scores(torch.from_numpy(explanation.mask)[None])
    return {"probability": means[0].max().item()} | {key: score.item() for key, score in scores.items()}
