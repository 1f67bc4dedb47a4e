"""Explaining sound of any length: what `interpret.py --audio`, the report's examples and Python users rest on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interpreters.base import Interpreter
from models.classifier import AudioClassifier, Evidence
from models.frontend import Spectrogram
from recipes.data.audio import fit_length, peak_normalize


@dataclass(frozen=True)
class Explanation:
    """One sound explained, in windows of the classifier's clip length.

    sound, relevant, residual: float32 [N] at the classifier's rate. log_magnitude, mask: [T, F], the frames of
    all windows. probabilities: [W, K] posterior of every window; relevant_probabilities, residual_probabilities
    likewise. window_seconds: length of a window; a sound no longer than one window is one window.
    """

    sound: np.ndarray
    relevant: np.ndarray
    residual: np.ndarray
    log_magnitude: np.ndarray
    mask: np.ndarray
    probabilities: np.ndarray
    relevant_probabilities: np.ndarray
    residual_probabilities: np.ndarray
    window_seconds: float

    @property
    def prediction(self) -> int:
        """Index of the class with the highest mean probability over the windows."""
        return int(self.probabilities.mean(axis=0).argmax())


@dataclass(frozen=True)
class Window:
    """A stretch of a sound as a classifier heard it: one clip, and how many of its samples are not padding."""

    spectrogram: Spectrogram
    evidence: Evidence
    samples: int


@torch.no_grad()
def classify_windows(classifier: AudioClassifier, sound: np.ndarray, clip_seconds: float) -> Iterator[Window]:
    """Let a classifier hear a mono sound [N] at its rate, whatever the sound's length and level.

    The sound is normalised to an absolute peak of 1, as in training, and cut into windows of `clip_seconds`; the last
    window is padded with silence. A sound shorter than a window is heard as it is, without padding.
    """
    device = next(classifier.parameters()).device
    sound = peak_normalize(np.asarray(sound, dtype=np.float32))
    length = min(len(sound), round(clip_seconds * classifier.frontend.sample_rate))
    for start in range(0, len(sound), length):
        piece = sound[start : start + length]
        window = torch.from_numpy(fit_length(piece, length)).unsqueeze(0).to(device)
        spectrogram = classifier.frontend.analyze(window)
        yield Window(spectrogram, classifier(spectrogram), len(piece))


@torch.no_grad()
def explain(
    classifier: AudioClassifier, interpreter: Interpreter, sound: np.ndarray, clip_seconds: float
) -> Explanation:
    """Explain a mono sound [N] at the classifier's rate, in the windows of `classify_windows`.

    The padding of the last window is cut off again. Every window explains its own predicted class.
    """
    frontend = classifier.frontend
    sound = peak_normalize(np.asarray(sound, dtype=np.float32))
    parts: dict[str, list[Tensor]] = {}
    for window in classify_windows(classifier, sound, clip_seconds):
        frames = frontend.num_frames(window.samples)
        found = interpreter.interpret(classifier, window.spectrogram, window.evidence)
        pieces = {
            "relevant": frontend.synthesize(found.relevant),
            "residual": frontend.synthesize(found.residual),
            "log_magnitude": window.spectrogram.log_magnitude[:, :frames],
            "mask": found.mask[:, :frames],
            "probabilities": window.evidence.probabilities,
            "relevant_probabilities": classifier(found.relevant).probabilities,
            "residual_probabilities": classifier(found.residual).probabilities,
        }
        for name, part in pieces.items():
            parts.setdefault(name, []).append(part[:1].float().cpu())
    arrays = {name: torch.cat([piece[0] for piece in found]).numpy() for name, found in parts.items()}
    for name in ("probabilities", "relevant_probabilities", "residual_probabilities"):
        arrays[name] = torch.cat(parts[name]).numpy()
    for name in ("relevant", "residual"):
        arrays[name] = arrays[name][: len(sound)]
    length = min(len(sound), round(clip_seconds * frontend.sample_rate))
    return Explanation(sound=sound, window_seconds=length / frontend.sample_rate, **arrays)
