"""Scoring explanations: from a batch of spectrograms to every per-clip number, and no classifier pass more."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interpreters.base import Interpretation, Interpreter
from interpreters.ground_truth import Truth
from interpreters.metrics import (
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
from models.labels import NO_CLASS
from recipes.data.clips import KnownSources
from recipes.scoring.explanation import Explanation

SPLIT_FLOOR_DB = -100.0


@dataclass
class Cost:
    """Seconds that explaining some clips took: from the classifier's evidence to the first interpretation.

    A clip counts once for each of its explained classes.
    """

    seconds: float = 0.0
    clips: int = 0

    @property
    def seconds_per_clip(self) -> float:
        return self.seconds / max(self.clips, 1)


@dataclass(frozen=True)
class LabelledClips:
    """A batch of clips to explain, as the classifier hears them, with what is known of them.

    truth: [B, K] bool, the classes that they have. sources: what they are made of where that is known, else None.
    """

    spectrogram: Spectrogram
    truth: Tensor
    sources: KnownSources | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, rows: Tensor) -> "LabelledClips":
        sources = None if self.sources is None else self.sources[rows]
        return LabelledClips(self.spectrogram[rows], self.truth[rows], sources)


@torch.no_grad()
def score_batch(
    classifier: AudioClassifier,
    interpreter: Interpreter,
    clips: LabelledClips,
    logit_scale: float = 1.0,
    cost: Cost | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Columns of every setting of the interpreter's sweep, by 1 + 2Q classifier passes; a row for each explained class.

    Explained is what the classifier hears: the predicted class of each clip where it knows one label, else every class
    that it hears, so that a clip may have several rows, or none. The column `row` says which clip of the batch it is.
    Nothing is yielded where nothing is heard.

    logit_scale: `ClassifierInfo.logit_scale`; other than 1 it adds `fa_raw_cosine`, the faithfulness under a softmax
    of raw cosines, which is what the FocalNet paper's Table 1 holds. Clips with `sources` also get the scores of
    `interpreters.ground_truth`, and trained methods those of `relevant_scores`. cost: adds up the time that explaining
    takes.
    Each yielded column is a CPU tensor [R]; label and predictions are class indices, or `NO_CLASS`. Raises UsageError
    where the classifier or the interpreter gives NaN or infinite numbers.
    """
    evidence = classifier(clips.spectrogram)
    _check_finite({"the classifier's probabilities": evidence.probabilities})
    rows, target = evidence.labels.heard(evidence.logits)
    if not len(rows):
        return
    clips, evidence = clips[rows], evidence[rows]
    spectrogram = clips.spectrogram
    truth = None if clips.sources is None else _truth(classifier, clips.sources, target)
    whole = {"row": rows} | _describe_classes(evidence, clips.truth, target)
    for interpretation in _timed(interpreter.sweep(classifier, spectrogram, evidence, target), target, cost):
        relevant, residual = classifier(interpretation.relevant), classifier(interpretation.residual)
        _check_finite(
            {
                f"masks of {type(interpreter).__name__}": interpretation.mask,
                f"importances of {type(interpreter).__name__}": interpretation.importance,
                "the classifier's probabilities on the relevant part": relevant.probabilities,
                "the classifier's probabilities on the residual part": residual.probabilities,
            }
        )
        scores = part_scores(evidence, relevant, residual, target) | mask_scores(interpretation.mask)
        scores["relevant_prediction"], scores["residual_prediction"] = relevant.answer(target), residual.answer(target)
        scores["split_db"] = split_error(classifier, spectrogram, interpretation)
        if interpreter.trainable:
            scores |= relevant_scores(interpretation.relevant.log_magnitude)
        if logit_scale != 1 and evidence.labels.exclusive:
            cosines, residual_cosines = _raw_cosines(evidence, logit_scale), _raw_cosines(residual, logit_scale)
            scores["fa_raw_cosine"] = faithfulness(cosines.probabilities, residual_cosines.probabilities)
        if truth is not None:
            relevant_sound = classifier.frontend.synthesize(interpretation.relevant)
            scores |= truth.scores(interpretation.mask, relevant_sound, interpretation.importance)
        yield _on_cpu(whole | scores)


def _describe_classes(evidence: Evidence, truth: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What the classifier says of the whole input about the explained classes [R], and whether it is right.

    The label is the explained class where the clip has it, else the clip's only one, else `NO_CLASS`.
    """
    right = truth.gather(1, target[:, None])[:, 0]
    only = torch.where(truth.sum(dim=1) == 1, truth.long().argmax(dim=1), NO_CLASS)
    return {
        "label": torch.where(right, target, only),
        "prediction": target,
        "probability": evidence.probabilities.gather(1, target[:, None])[:, 0],
        evidence.labels.correct: right.float(),
    }


def _truth(classifier: AudioClassifier, sources: KnownSources, target: Tensor) -> Truth:
    """What a right explanation of these classes keeps."""
    return Truth.of(classifier.frontend, sources.heard, sources.sounds, sources.labels, target)


def _raw_cosines(evidence: Evidence, logit_scale: float) -> Evidence:
    """The evidence of a classifier whose logits are cosines times a scale, without the scale."""
    return replace(evidence, logits=evidence.logits / logit_scale)


def _timed(sweep: Iterator[Interpretation], target: Tensor, cost: Cost | None) -> Iterator[Interpretation]:
    """The interpretations of a sweep. The time that the first one takes is added to the cost."""
    started = _now(target)
    first = next(sweep)
    if cost is not None:
        cost.seconds += _now(target) - started
        cost.clips += len(target)
    yield first
    yield from sweep


def _check_finite(numbers: dict[str, Tensor]) -> None:
    """Raise UsageError that names the first of these numbers that are not all finite. A GPU is waited for once."""
    finite = torch.stack([torch.isfinite(values).all() for values in numbers.values()]).tolist()
    for name, is_finite in zip(numbers, finite, strict=True):
        if not is_finite:
            raise UsageError(
                f"{name} are NaN or infinite on test clips: pass --eval_precision=fp32, or train again with a lower "
                "learning rate"
            )


def _on_cpu(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns [R] on the CPU. A GPU is waited for once for each type of number, and not for each column."""
    names_by_type: dict[torch.dtype, list[str]] = {}
    for name, column in columns.items():
        names_by_type.setdefault(column.dtype, []).append(name)
    moved = {}
    for names in names_by_type.values():
        moved |= zip(names, torch.stack([columns[name] for name in names]).cpu(), strict=True)
    return {name: moved[name] for name in columns}


def _now(tensor: Tensor) -> float:
    """Seconds of a monotonic clock, once the tensor's device has done its work."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    return time.perf_counter()


def part_scores(evidence: Evidence, relevant: Evidence, residual: Evidence, target: Tensor) -> dict[str, Tensor]:
    """FID-I, FA, AI, AD and AG, each [B], of the target [B], from the evidence on the input and on its two parts.

    target: a class that is heard in the input.
    """
    return probability_scores(evidence.about(target), relevant.about(target), residual.about(target))


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

    Probabilities are averaged over the sound's windows before they are compared. Of several labels the explained class
    counts; where it is not heard, its scores are NaN.
    """
    labels, target = explanation.labels, torch.tensor([explanation.target])
    means = []
    for probabilities in (
        explanation.probabilities,
        explanation.relevant_probabilities,
        explanation.residual_probabilities,
    ):
        means.append(torch.from_numpy(explanation.mean(probabilities))[None])
    scores = probability_scores(*(labels.about(mean, target) for mean in means))
    if not labels.exclusive and labels.answer(means[0], target) == NO_CLASS:
        scores = {key: torch.full_like(score, math.nan) for key, score in scores.items()}
    scores |= mask_scores(torch.from_numpy(explanation.mask)[None])
    return {"probability": means[0].max().item()} | {key: score.item() for key, score in scores.items()}
