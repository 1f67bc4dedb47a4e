"""Explaining sound of any length: what `interpret.py --audio`, the report's examples and Python users rest on.

A sound is cut into windows of the classifier's clip length, and each is prepared as the clips were that the classifier
learned from. The sound's probabilities are the mean over windows, weighted by the samples that each window holds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from interpreters.base import Interpreter
from models.classifier import AudioClassifier, Evidence
from models.frontend import FrontEnd, Spectrogram
from models.labels import ONE_LABEL, Labels
from recipes.data.audio import prepare_window, sound_level
from recipes.data.sounds import MonoSound, mono_sound
from recipes.scoring.joining import Parts, fade_border


@dataclass(frozen=True)
class Window:
    """A stretch of a sound as a classifier hears it.

    start: its first sample in the sound. samples: how many of the sound's samples it holds; the rest is padding.
    waveform: float32 [L], prepared. level: what the sound's samples were divided by.
    """

    start: int
    samples: int
    waveform: np.ndarray
    level: float
    spectrogram: Spectrogram
    evidence: Evidence


@dataclass(frozen=True)
class Posterior:
    """What a classifier says of the W windows of a sound: probabilities [W, K], and the samples [W] they hold."""

    probabilities: np.ndarray
    samples: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """[K] of the whole sound."""
        return weighted_mean(self.probabilities, self.samples)

    @property
    def prediction(self) -> int:
        """Index of the sound's most probable class."""
        return int(self.mean.argmax())


@dataclass(frozen=True)
class ExplainedWindow:
    """One window of a sound, explained. Windows follow each other without a gap or an overlap.

    start: its first sample in the sound. sound, relevant, residual: float32 [n] at the level at which the whole sound
    has an absolute peak of 1. log_magnitude, mask, importance: [t, F], the frames of one analysis of the whole sound
    whose centres lie in the window. probabilities, relevant_probabilities, residual_probabilities: [K]. target: the
    class that is explained. labels: what the probabilities mean.
    """

    start: int
    sound: np.ndarray
    relevant: np.ndarray
    residual: np.ndarray
    log_magnitude: np.ndarray
    mask: np.ndarray
    importance: np.ndarray
    probabilities: np.ndarray
    relevant_probabilities: np.ndarray
    residual_probabilities: np.ndarray
    target: int
    labels: Labels = ONE_LABEL


@dataclass(frozen=True)
class Explanation:
    """One sound explained, in W windows of the classifier's clip length.

    sound, relevant, residual: float32 [N] at the classifier's rate; the sound has an absolute peak of 1. log_magnitude,
    mask, importance: [T, F], the frames of one analysis of the whole sound. probabilities, relevant_probabilities,
    residual_probabilities: [W, K] posteriors. window_seconds: length of a window. window_samples: [W] samples of the
    sound that each holds. targets: [W] the class that each explains: one and the same wherever the method can be asked.
    labels: what the probabilities mean.
    """

    sound: np.ndarray
    relevant: np.ndarray
    residual: np.ndarray
    log_magnitude: np.ndarray
    mask: np.ndarray
    importance: np.ndarray
    probabilities: np.ndarray
    relevant_probabilities: np.ndarray
    residual_probabilities: np.ndarray
    window_seconds: float
    window_samples: np.ndarray
    targets: np.ndarray
    labels: Labels = ONE_LABEL

    @property
    def prediction(self) -> int:
        """Index of the most probable class of the whole sound."""
        return int(self.mean(self.probabilities).argmax())

    @property
    def target(self) -> int:
        """The class that is explained; of several, the predicted one."""
        return int(self.targets[0]) if len(set(self.targets.tolist())) == 1 else self.prediction

    def mean(self, probabilities: np.ndarray) -> np.ndarray:
        """[K] of the whole sound from posteriors [W, K]."""
        return weighted_mean(probabilities, self.window_samples)

    def answer(self, probabilities: np.ndarray) -> int:
        """The explained class where posteriors [W, K] have it heard, else what is heard in its place, or `NO_CLASS`."""
        return class_heard(self.labels, self.mean(probabilities), self.target)


def class_heard(labels: Labels, mean: np.ndarray, target: int) -> int:
    """The target where probabilities [K] have it heard, else the class in its place, or `NO_CLASS`."""
    return int(labels.answer(torch.from_numpy(mean)[None], torch.tensor([target]))[0])


def weighted_mean(probabilities: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """[K] from posteriors [W, K] of windows that hold so many samples [W]."""
    return np.average(probabilities, axis=0, weights=samples).astype(np.float32)


def as_sound(sound: MonoSound | np.ndarray) -> MonoSound:
    """A waveform [N] as a MonoSound; a MonoSound as it is."""
    return sound if isinstance(sound, MonoSound) else mono_sound(np.asarray(sound, dtype=np.float32))


@torch.no_grad()
def classify_windows(
    classifier: AudioClassifier, sound: MonoSound | np.ndarray, clip_seconds: float
) -> Iterator[Window]:
    """Let a classifier hear a mono sound [N] at its rate, window by window, whatever the sound's length and level.

    Windows of `clip_seconds` lie side by side; each is prepared by `prepare_window`, as the clips of training are.
    """
    device = next(classifier.parameters()).device
    samples = as_sound(sound).samples
    length = round(clip_seconds * classifier.frontend.sample_rate)
    for start in range(0, len(samples), length):
        piece = samples[start : start + length]
        waveform = prepare_window(piece, length)
        spectrogram = classifier.frontend.analyze(torch.from_numpy(waveform)[None].to(device))
        yield Window(start, len(piece), waveform, sound_level(piece), spectrogram, classifier(spectrogram))


def classify(classifier: AudioClassifier, sound: MonoSound | np.ndarray, clip_seconds: float) -> Posterior:
    """What a classifier says of a sound [N] of any length."""
    probabilities, samples = [], []
    for window in classify_windows(classifier, sound, clip_seconds):
        probabilities.append(window.evidence.probabilities[0].cpu().numpy())
        samples.append(window.samples)
    return Posterior(np.stack(probabilities), np.array(samples))


@torch.no_grad()
def explain_windows(
    classifier: AudioClassifier,
    interpreter: Interpreter,
    sound: MonoSound | np.ndarray,
    clip_seconds: float,
    target: int | None = None,
) -> Iterator[ExplainedWindow]:
    """Explain one class of a mono sound [N] at the classifier's rate, window after window, from beginning to end.

    target: index of the class; None: the most probable one of the whole sound. A method that knows the predicted class
    only explains that of every window where no target is given. Memory does not grow with the sound's length.

    Raises UsageError where the method cannot explain the target.
    """
    sound = as_sound(sound)
    frontend = classifier.frontend
    length = round(clip_seconds * frontend.sample_rate)
    if target is None and interpreter.answers_any_class and len(sound) > length:
        target = classify(classifier, sound, clip_seconds).prediction
    held_back: tuple[ExplainedWindow, Parts] | None = None
    for window in classify_windows(classifier, sound, clip_seconds):
        explained, parts = _explain_window(classifier, interpreter, window, sound, target)
        if held_back is not None:
            fade_border(held_back[1], parts, frontend)
            yield held_back[0]
        held_back = (explained, parts)
    yield held_back[0]


def _explain_window(
    classifier: AudioClassifier, interpreter: Interpreter, window: Window, sound: MonoSound, target: int | None
) -> tuple[ExplainedWindow, Parts]:
    """A window explained, and its parts with their padding, of which it shows the first samples."""
    frontend, evidence = classifier.frontend, window.evidence
    asked = None if target is None else torch.tensor([target], device=evidence.logits.device)
    interpretation = interpreter.interpret(classifier, window.spectrogram, evidence, asked)
    gain = np.float32(window.level / sound.level)
    relevant = _sound_of(interpretation.relevant, frontend) * gain
    residual = _sound_of(interpretation.residual, frontend) * gain
    parts = Parts(window.waveform * gain, relevant, residual)
    log_magnitude, frames = _frames(frontend, window, sound)
    explained = ExplainedWindow(
        start=window.start,
        sound=parts.sound[: window.samples],
        relevant=parts.relevant[: window.samples],
        residual=parts.residual[: window.samples],
        log_magnitude=log_magnitude,
        mask=interpretation.mask[0, frames].float().cpu().numpy(),
        importance=interpretation.importance[0, frames].float().cpu().numpy(),
        probabilities=_posterior(evidence),
        relevant_probabilities=_posterior(classifier(interpretation.relevant)),
        residual_probabilities=_posterior(classifier(interpretation.residual)),
        target=int(interpretation.target[0]),
        labels=evidence.labels,
    )
    return explained, parts


def _sound_of(part: Spectrogram, frontend: FrontEnd) -> np.ndarray:
    """float32 [L] of a batch of one clip."""
    return frontend.synthesize(part)[0].float().cpu().numpy()


def _posterior(evidence: Evidence) -> np.ndarray:
    """[K] of a batch of one clip."""
    return evidence.probabilities[0].cpu().numpy()


def _frames(frontend: FrontEnd, window: Window, sound: MonoSound) -> tuple[np.ndarray, np.ndarray]:
    """The frames of one analysis of the whole sound whose centres lie in a window.

    Returns their log1p magnitude [t, F] at the sound's level, and [t] the nearest frames of the window's own analysis.
    """
    hop, end = frontend.hop, window.start + window.samples
    first = math.ceil(window.start / hop)
    last = end // hop if end == len(sound) else math.ceil(end / hop) - 1
    context = math.ceil(frontend.n_fft / 2 / hop)
    begin = max(0, first - context)
    stretch = np.array(sound.samples[begin * hop : (last + context) * hop]) / np.float32(sound.level)
    analysis = frontend.analyze(torch.from_numpy(stretch)[None]).log_magnitude[0]
    nearest = np.rint((np.arange(first, last + 1) * hop - window.start) / hop).astype(int)
    own_frames = window.spectrogram.log_magnitude.shape[1]
    return analysis[first - begin : last + 1 - begin].numpy(), nearest.clip(max=own_frames - 1)


def explain(
    classifier: AudioClassifier,
    interpreter: Interpreter,
    sound: MonoSound | np.ndarray,
    clip_seconds: float,
    target: int | None = None,
) -> Explanation:
    """`explain_windows` of a whole sound as one Explanation, which is held in memory."""
    windows = list(explain_windows(classifier, interpreter, sound, clip_seconds, target))
    return join_windows(windows, clip_seconds)


def join_windows(windows: Sequence[ExplainedWindow], clip_seconds: float) -> Explanation:
    """Consecutive windows as one Explanation."""
    lengthwise = ("sound", "relevant", "residual", "log_magnitude", "mask", "importance")
    posteriors = ("probabilities", "relevant_probabilities", "residual_probabilities")
    joined = {}
    for name in lengthwise:
        joined[name] = np.concatenate([getattr(window, name) for window in windows])
    for name in posteriors:
        joined[name] = np.stack([getattr(window, name) for window in windows])
    return Explanation(
        **joined,
        window_seconds=clip_seconds,
        window_samples=np.array([len(window.sound) for window in windows]),
        targets=np.array([window.target for window in windows]),
        labels=windows[0].labels,
    )
