"""Explaining sound of any length: what `interpret.py --audio` and the report's examples rest on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from interpreters.base import Interpreter
from models.classifier import AudioClassifier
from recipes.audio import fit_length, peak_normalize


@dataclass(frozen=True)
class Explanation:
    """One sound explained, in windows of the classifier's clip length.

    sound, relevant, residual: float32 [N] at the classifier's rate. log_magnitude, saliency: [T, F], the frames of
    all windows. probabilities: [W, K] posterior of every window; relevant_probabilities, residual_probabilities
    likewise. window_seconds: length of a window; a sound no longer than one window is one window.
    """

    sound: np.ndarray
    relevant: np.ndarray
    residual: np.ndarray
    log_magnitude: np.ndarray
    saliency: np.ndarray
    probabilities: np.ndarray
    relevant_probabilities: np.ndarray
    residual_probabilities: np.ndarray
    window_seconds: float

    @property
    def prediction(self) -> int:
        """Index of the class with the highest mean probability over the windows."""
        return int(self.probabilities.mean(axis=0).argmax())


@torch.no_grad()
def explain(
    classifier: AudioClassifier, interpreter: Interpreter, sound: np.ndarray, clip_seconds: float
) -> Explanation:
    """Explain a mono sound [N] at the classifier's rate, whatever its length and level.

    The sound is normalised to an absolute peak of 1, as in training, and cut into windows of `clip_seconds`; the last
    window is padded with silence, and the padding is cut off again. Every window explains its own predicted class. A
    sound shorter than a window is explained as it is, without padding.
    """
    frontend = classifier.frontend
    device = next(classifier.parameters()).device
    sound = peak_normalize(np.asarray(sound, dtype=np.float32))
    length = min(len(sound), round(clip_seconds * frontend.sample_rate))
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(sound), length):
        piece = sound[start : start + length]
        frames = frontend.num_frames(len(piece))
        window = torch.from_numpy(fit_length(piece, length)).unsqueeze(0).to(device)
        spectrogram = frontend.analyze(window)
        evidence = classifier(spectrogram)
        found = interpreter.interpret(classifier, spectrogram, evidence)
        pieces = {
            "relevant": frontend.synthesize(found.relevant),
            "residual": frontend.synthesize(found.residual),
            "log_magnitude": spectrogram.log_magnitude[:, :frames],
            "saliency": found.saliency[:, :frames],
            "probabilities": evidence.probabilities,
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
    return Explanation(sound=sound, window_seconds=length / frontend.sample_rate, **arrays)
