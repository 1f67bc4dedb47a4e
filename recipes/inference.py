"""Classify and explain sounds from Python. Three lines, no data set:

>>> from recipes.inference import explain
>>> heard = explain("results/mobilenet/1234", "street.mp3", method="grad_cam", target="rooster")
>>> heard.plot()

and for many sounds, or a method that was trained, in SpeechBrain's convention:

>>> from recipes.inference import SoundInterpreter
>>> interpreter = SoundInterpreter.from_hparams(source="results/lmac/1234")
>>> heard = interpreter.interpret_file("siren.wav")
>>> heard.label, heard.probability, heard.relevant
"""

import logging
import math
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from interpreters.base import Interpreter
from models.bundle import read_info
from models.errors import UsageError
from recipes.data.audio import resample
from recipes.data.class_names import class_index
from recipes.data.signals import sentence
from recipes.data.sounds import MAX_CHANNELS, MonoSound, as_float, checked_rate, mono_sound, open_sound, sound_of
from recipes.report.explained import ClassifiedSound, ExplainedSound, named_shares
from recipes.runs.asking import as_it_was, build_method, method_name, open_classifier
from recipes.runs.subject import Subject, load_interpreter, load_subject
from recipes.scoring.answer import Answer
from recipes.scoring.explanation import classify, explain_windows, join_windows
from recipes.system.memory import keep_freed_memory
from recipes.system.products import multiply_by_onednn

logger = logging.getLogger(__name__)

__all__ = ["ClassifiedSound", "ExplainedSound", "SoundInterpreter", "explain", "open_classifier", "tune_process"]


def tune_process() -> None:
    """Make this process as fast as the commands are, once, before the first sound; numbers agree to rounding.

    On CPUs of AMD with AVX-512, oneDNN then multiplies float32 matrices, and FocalNet and ViT take 0.6 of their time.
    On Linux, freed memory stays with the process. Both hold for all that runs in the process, so nothing else here does
    it for you.
    """
    multiply_by_onednn()
    keep_freed_memory()


def explain(
    classifier: str | Path | nn.Module | Subject,
    sound: object,
    method: str | Path = "grad_cam",
    target: str | int | None = None,
    rate: int | None = None,
    **settings: object,
) -> ExplainedSound:
    """Explain one sound, whatever it and the classifier come as.

    Arguments
    ---------
    classifier: the folder of a bundle or a run, a module that the conformance check accepts (afterwards it trains as
        before), a hub name, or what `open_classifier` returned, which loads it once for many sounds.
    sound: a path, or a waveform [N], [N, channels] or [channels, N] (see `recipes.data.sounds.sound_of`).
    method: a recipe's name, such as "grad_cam" or "lime", or the folder of a run that trained one.
    target: the class to explain, by name or index; None: the most probable one.
    rate: sample rate in Hz of a waveform. settings: keys of the method's recipe, such as quantile=0.8.

    Raises UsageError in one sentence for whatever does not fit.
    """
    module = classifier if isinstance(classifier, nn.Module) else None
    with as_it_was(module):
        subject = classifier if isinstance(classifier, Subject) else open_classifier(classifier)
        index = class_index(subject.info.class_names, target)
        interpreter = build_method(method, subject, settings)
        mono = sound_of(sound, rate, subject.info.sample_rate)
        _warn(sound if isinstance(sound, str | Path) else "the sound", mono)
        return SoundInterpreter(subject, interpreter, method_name(method)).explained(mono, index)


class SoundInterpreter:
    """A classifier and an interpreter of it, ready for sounds of any length. Made by `from_hparams`."""

    def __init__(self, subject: Subject, interpreter: Interpreter, method: str | None = None):
        self.subject, self.interpreter = subject, interpreter
        self.method = method or type(interpreter).__name__

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
        return self.classified(self._open(path))

    def interpret_file(self, path: str | Path, target: str | int | None = None) -> ExplainedSound:
        """Classify and explain one sound file of any length, rate and number of channels.

        target: the class to explain, by name or index; None: the most probable one of the whole sound.
        Raises UsageError when the file cannot be read, and for a target that cannot be explained.
        """
        return self.explained(self._open(path), class_index(self.labels, target))

    def classify_batch(
        self, waveforms: Tensor | Sequence[np.ndarray], rate: int | None = None
    ) -> list[ClassifiedSound]:
        """Classify mono waveforms, as `interpret_batch` takes them."""
        return [self.classified(sound) for sound in self._batch(waveforms, rate)]

    def interpret_batch(
        self,
        waveforms: Tensor | Sequence[np.ndarray],
        rate: int | None = None,
        target: str | int | None = None,
    ) -> list[ExplainedSound]:
        """Classify and explain mono waveforms: [B, N], or a sequence of [N] of any lengths, on any device.

        rate: their sample rate in Hz; None: `self.rate`. target: as in `interpret_file`, the same for all.
        Raises UsageError for another shape, one that is a single sound of several channels, no samples, NaN or infinite
        samples, and a rate that is not read.
        """
        index = class_index(self.labels, target)
        return [self.explained(sound, index) for sound in self._batch(waveforms, rate)]

    def classified(self, sound: MonoSound) -> ClassifiedSound:
        """Classify a mono sound at `self.rate`."""
        posterior = classify(self.subject.classifier, sound, self._clip_seconds(sound))
        return ClassifiedSound(**named_shares(posterior.mean, self.labels))

    def explained(self, sound: MonoSound, target: int | None) -> ExplainedSound:
        """Classify and explain a mono sound at `self.rate`. target: index of the class; None: the most probable."""
        classifier, clip_seconds = self.subject.classifier, self._clip_seconds(sound)
        answer = Answer(self.labels, self.rate)
        windows = list(explain_windows(classifier, self.interpreter, sound, clip_seconds, target))
        for window in windows:
            answer.add(window)
        return ExplainedSound(
            **named_shares(answer.mean(answer.probabilities), self.labels),
            target=self.labels[answer.target],
            rate=self.rate,
            hop=classifier.frontend.hop,
            method=self.method,
            answer=answer,
            explanation=join_windows(windows, clip_seconds),
            faults=sound.faults,
        )

    def _open(self, path: str | Path) -> MonoSound:
        sound = open_sound(path, self.rate)
        _warn(path, sound)
        return sound

    def _clip_seconds(self, sound: MonoSound) -> float:
        """Length of a window; a classifier that does not know one hears the whole sound at once."""
        seconds = self.subject.info.clip_seconds
        return len(sound) / self.rate if math.isinf(seconds) else seconds

    def _batch(self, waveforms: Tensor | Sequence[np.ndarray], rate: int | None) -> Iterable[MonoSound]:
        """Waveforms as sounds, all of them checked before the first is returned."""
        from_rate = self.rate if rate is None else checked_rate(rate)
        shape = tuple(getattr(waveforms, "shape", ()))
        if len(shape) == 1 and not isinstance(waveforms, Sequence) and waveforms.dtype != object:
            raise UsageError(
                f"waveforms of shape {list(shape)} is one sound: give [sounds, samples], such as [waveform]"
            )
        if len(shape) == 2 and shape[1] <= MAX_CHANNELS < shape[0]:
            raise UsageError(
                f"waveforms of shape {list(shape)} look like one sound of {shape[1]} channels, not like {shape[0]} "
                "sounds of so few samples: give [sounds, samples], such as [waveforms.mean(axis=1)]"
            )
        sounds = [as_float(waveform) for waveform in waveforms]
        for number, sound in enumerate(sounds):
            if sound.ndim != 1 or not len(sound) or not np.isfinite(sound).all():
                raise UsageError(
                    f"waveform {number} of shape {list(sound.shape)} must be [samples], one or more, all of them finite"
                )
        return (mono_sound(resample(sound, from_rate, self.rate)) for sound in sounds)


def _warn(name: object, sound: MonoSound) -> None:
    """Log what deceives about a sound."""
    if sound.faults:
        logger.warning("%s", sentence(name, sound.faults))


def _download(repository: str, savedir: str | Path | None, revision: str | None) -> Path:
    """The two bundles of a hub repository, as files: the shared cache holds links, which a bundle may not."""
    import huggingface_hub

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
