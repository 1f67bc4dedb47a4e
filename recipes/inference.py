"""Classify and explain sounds from Python, in SpeechBrain's convention:

>>> from recipes.inference import SoundInterpreter
>>> interpreter = SoundInterpreter.from_hparams(source="results/lmac/1234")
>>> heard = interpreter.interpret_file("siren.wav")
>>> heard.label, heard.probability, heard.relevant
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from torch import Tensor

from interpreters.base import Interpreter
from models.bundle import read_info
from models.errors import UsageError
from recipes.data.audio import SAMPLE_RATES, resample
from recipes.data.sounds import MonoSound, open_sound
from recipes.runs.subject import Subject, load_interpreter, load_subject
from recipes.scoring.explanation import classify, explain


@dataclass(frozen=True)
class ClassifiedSound:
    """A sound's most probable class, with the probabilities of all, averaged over the sound's windows."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class ExplainedSound(ClassifiedSound):
    """A classified sound and the part of it behind the prediction.

    waveform: float32 [N] mono at `rate` Hz, absolute peak 1. relevant, residual: its two parts, [N]. mask: [T, F] in
    [0, 1], frames by frequency bins. relevant_probability, residual_probability: of `label`, on each part alone. A
    sound longer than a clip is explained window by window, each window for its own predicted class.
    """

    waveform: np.ndarray
    relevant: np.ndarray
    residual: np.ndarray
    mask: np.ndarray
    rate: int
    relevant_probability: float
    residual_probability: float


class SoundInterpreter:
    """A classifier and an interpreter of it, ready for sounds of any length. Made by `from_hparams`."""

    def __init__(self, subject: Subject, interpreter: Interpreter):
        self.subject, self.interpreter = subject, interpreter

    @classmethod
    def from_hparams(
        cls,
        source: str | Path,
        savedir: str | Path | None = None,
        device: str = "cpu",
        revision: str | None = None,
        trust: Collection[str] = (),
    ) -> "SoundInterpreter":
        """Load the bundles `classifier/` and `interpreter/` of a run's folder or a Hugging Face repository.

        Arguments
        ---------
        source: folder such as "results/lmac/1234", or repository such as "someone/lmac-esc50".
        savedir: where a repository is downloaded to; None: results/hub/someone--name.
        device: torch device. revision: a repository's branch, tag or commit.
        trust: modules of your own that the bundles may build, such as ["my_module"].

        A folder without `classifier/`, which older runs left, takes the classifier from where the run found it.
        Raises UsageError when there is no such folder or repository, and as `load_bundle`.
        """
        folder = Path(source)
        if not folder.is_dir():
            folder = _download(str(source), savedir, revision)
        classifier = folder / "classifier"
        if not classifier.is_dir() and Path(source).is_dir():
            classifier = Path(read_info(folder / "interpreter", "interpreter").source["classifier"]["path"])
        subject = load_subject(classifier, device, trust)
        interpreter = load_interpreter(folder, subject, "python interpret.py hparams/RECIPE.yaml", trust).network
        return cls(subject, interpreter.to(device))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the classifier's outputs."""
        return self.subject.info.class_names

    @property
    def rate(self) -> int:
        """Sample rate in Hz of the sounds that come out."""
        return self.subject.info.sample_rate

    def classify_file(self, path: str | Path) -> ClassifiedSound:
        """Classify one sound file of any length, rate and number of channels.

        Raises UsageError when it cannot be read.
        """
        sound = open_sound(path, self.rate)
        return ClassifiedSound(
            **self._named(classify(self.subject.classifier, sound, self.subject.info.clip_seconds).mean)
        )

    def interpret_file(self, path: str | Path) -> ExplainedSound:
        """Classify and explain one sound file of any length, rate and number of channels.

        Raises UsageError when it cannot be read.
        """
        return self._explained(open_sound(path, self.rate))

    def interpret_batch(
        self, waveforms: Tensor | Sequence[np.ndarray], rate: int | None = None
    ) -> list[ExplainedSound]:
        """Classify and explain mono waveforms: [B, N], or a sequence of [N] of any lengths, on any device.

        rate: their sample rate in Hz; None: `self.rate`. Raises UsageError for another shape, no samples, NaN or
        infinite samples, and a rate that is not read.
        """
        if rate is not None and (rate != int(rate) or int(rate) not in SAMPLE_RATES):
            raise UsageError(f"rate={rate!r} must be a whole number of Hz from {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]}")
        sounds = [torch.as_tensor(one).detach().float().cpu().numpy() for one in waveforms]
        for number, sound in enumerate(sounds):
            if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
                raise UsageError(
                    f"waveform {number} of shape {list(sound.shape)} must be [samples], one or more, all of them finite"
                )
        return [self._explained(resample(sound, int(rate or self.rate), self.rate)) for sound in sounds]

    def _explained(self, sound: np.ndarray | MonoSound) -> ExplainedSound:
        found = explain(self.subject.classifier, self.interpreter, sound, self.subject.info.clip_seconds)
        return ExplainedSound(
            **self._named(found.mean(found.probabilities)),
            waveform=found.sound,
            relevant=found.relevant,
            residual=found.residual,
            mask=found.mask,
            rate=self.rate,
            relevant_probability=float(found.mean(found.relevant_probabilities)[found.prediction]),
            residual_probability=float(found.mean(found.residual_probabilities)[found.prediction]),
        )

    def _named(self, shares: np.ndarray) -> dict:
        """The fields of a ClassifiedSound from its posterior [K]."""
        best = int(shares.argmax())
        every = {name: float(share) for name, share in zip(self.labels, shares, strict=True)}
        return {"label": self.labels[best], "probability": float(shares[best]), "probabilities": every}


def _download(repository: str, savedir: str | Path | None, revision: str | None) -> Path:
    """The two bundles of a hub repository, as files: the shared cache holds links, which a bundle may not."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"source={repository!r} is no folder, and no hub repository of the form someone/name")
    wanted = [f"{part}/*" for part in ("classifier", "interpreter")]
    folder = Path(savedir or Path("results/hub") / repository.replace("/", "--"))
    try:
        huggingface_hub.snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=wanted)
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise UsageError(
            f"source={repository!r} is no folder, and could not be had from the hub: {str(error).splitlines()[0]}"
        ) from error
    return folder
