"""Does the map of a long sound point at the seconds in which the class is heard?

    python -m tools.long_clips results/mobilenet/1234/classifier data/ESC-50 --out=docs/results/windows/mobilenet.json

Sounds are made of a fold's clips, each of another class, end to end. The classifier hears windows of its clip length,
pooled in each of the ways, or the whole sound at once (`whole`), and is asked about every class in turn. Of what each
map has above 0, `share` lies in the seconds of the class, and `pointed` is how often more lies there than in any other
clip. A map that knows nothing of the class has one clip's part of the sound in both, whatever it is. Intervals are
95 % bootstrap intervals over sounds.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from interpreters.base import Interpreter
from models.classifier import AudioClassifier
from models.errors import UsageError
from models.windows import POOLINGS, Windows
from recipes.data.audio import load_mono, prepare_window
from recipes.data.corpus import Clip, indices
from recipes.data.metadata import read_corpus
from recipes.runs.asking import build_method
from recipes.runs.facts import commit
from recipes.runs.subject import Subject, load_subject
from recipes.scoring.statistics import bootstrap_interval
from recipes.system.entry import entry
from tools.runner import check_out, positive, report_result, tool_parser

METHODS = ("grad_cam", "input_x_gradient")
WHOLE = "whole"


@dataclass(frozen=True)
class LongSound:
    """Clips of different classes end to end: float32 [N], and the class index of each clip, in order."""

    waveform: np.ndarray
    targets: list[int]


@dataclass(frozen=True)
class Answers:
    """What came of every question: `share`, `pointed`, and whether the classifier knows the class to be in the sound.

    sounds: the number of the sound that was asked about. seconds: CPU time of an explanation, on average.
    """

    right: list[float]
    share: list[float]
    pointed: list[float]
    sounds: list[int]
    seconds: float

    def summary(self) -> dict:
        """Means, and under `intervals` their [low, high]."""
        means: dict = {}
        intervals = {}
        for name in ("right", "share", "pointed"):
            interval = bootstrap_interval(np.array(getattr(self, name)), self.sounds)
            means[name] = round(interval["mean"], 4)
            intervals[name] = [round(interval["low"], 4), round(interval["high"], 4)]
        return means | {"seconds": round(self.seconds, 3), "intervals": intervals}


def build_sounds(clips: Sequence[Clip], subject: Subject, sounds: int, length: int, seed: int) -> list[LongSound]:
    """Sounds of `length` clips of different classes each; no clip comes twice, and a class only when the others did.

    Raises UsageError where the clips do not suffice.
    """
    rng = np.random.default_rng(seed)
    by_class: dict[str, list[Clip]] = {}
    for clip in clips:
        by_class.setdefault(clip.label, []).append(clip)
    _check_enough(by_class, sounds, length)
    rate, names = subject.info.sample_rate, list(subject.info.class_names)
    samples = round(subject.info.clip_seconds * rate)
    labels: list[str] = []
    made = []
    for _ in range(sounds):
        if len(labels) < length:
            labels = rng.permutation(sorted(by_class)).tolist()
        pieces, targets = [], []
        for label in labels[:length]:
            clip = by_class[label].pop(rng.integers(len(by_class[label])))
            pieces.append(prepare_window(load_mono(clip.path, rate), samples))
            targets.append(names.index(label))
        labels = labels[length:]
        made.append(LongSound(np.concatenate(pieces), targets))
    return made


def _check_enough(by_class: dict[str, list[Clip]], sounds: int, length: int) -> None:
    """Raise UsageError where so many sounds of so many classes would take more clips of a class than there are."""
    classes, fewest = len(by_class), min(map(len, by_class.values()))
    if length > classes:
        raise UsageError(f"--clips={length} in a sound need as many classes, and the fold has {classes}")
    most = classes // length * fewest
    if sounds > most:
        raise UsageError(
            f"--sounds={sounds} of --clips={length} are more than the {most} that the fold's {classes} classes of at "
            f"least {fewest} clips make"
        )


def shares(importance: Tensor, count: int) -> np.ndarray:
    """[count] of a map [T, F]: what of its positive part lies in each of so many equal stretches of time."""
    edges = np.linspace(0, len(importance), count + 1).round().astype(int)
    kept = importance.clamp(min=0).sum(dim=1).double().cumsum(dim=0)
    total = torch.cat([kept.new_zeros(1), kept])[edges].diff()
    return (total / total.sum()).cpu().numpy()


@torch.no_grad()
def measure(classifier: AudioClassifier, interpreter: Interpreter, sounds: Sequence[LongSound]) -> Answers:
    """Every class of every sound is asked about."""
    right, inside, pointed, asked, spent = [], [], [], [], 0.0
    for number, sound in enumerate(sounds):
        spectrogram = classifier.frontend.analyze(torch.from_numpy(sound.waveform)[None])
        evidence = classifier(spectrogram)
        most_probable = evidence.probabilities[0].topk(len(sound.targets)).indices.tolist()
        for place, target in enumerate(sound.targets):
            started = time.process_time()
            importance = interpreter.importance(classifier, spectrogram, evidence, torch.tensor([target]))
            spent += time.process_time() - started
            parts = shares(importance[0], len(sound.targets))
            right.append(float(target in most_probable))
            inside.append(float(parts[place]))
            pointed.append(float(parts.argmax() == place))
            asked.append(number)
    return Answers(right, inside, pointed, asked, spent / len(asked))


def main(arguments: list[str]) -> None:
    """Entry point; see the module's docstring."""
    parser = tool_parser("long_clips", __doc__, seeded=True)
    parser.add_argument("classifier", type=Path, help="the bundle of a classifier")
    parser.add_argument("data_folder", help="the data set it was trained on")
    parser.add_argument("--fold", type=int, default=5, help="whose clips the sounds are made of")
    parser.add_argument("--sounds", type=positive, default=4)
    parser.add_argument("--clips", type=positive, default=12, help="in a sound")
    parser.add_argument("--hop_seconds", type=float, default=2.5, help="from window to window")
    parser.add_argument("--methods", nargs="+", default=METHODS, help="recipes of methods without training")
    poolings = (*POOLINGS, WHOLE)
    parser.add_argument("--poolings", nargs="+", choices=poolings, default=poolings, help=f"{WHOLE}: no windows")
    options = parser.parse_args(arguments)
    check_out(options.out)
    report_result(compare(options), options.out)


def compare(options: argparse.Namespace) -> dict:
    """Every method with every pooling."""
    subject = load_subject(options.classifier, "cpu")
    corpus = read_corpus(options.data_folder, None, {})
    clips = [corpus.clips[i] for i in indices(corpus, (options.fold,))]
    sounds = build_sounds(clips, subject, options.sounds, options.clips, options.seed)
    rows = []
    for pooling in options.poolings:
        windows = None if pooling == WHOLE else Windows(subject.info.clip_seconds, options.hop_seconds, pooling)
        subject.classifier.windows = windows
        for method in options.methods:
            interpreter = build_method(method, subject, {})
            answers = measure(subject.classifier, interpreter, sounds)
            rows.append({"pooling": pooling, "method": method} | answers.summary())
    about = {"classifier": subject.info.source["experiment"], "commit": commit(), "torch": torch.__version__}
    about |= {"device": f"cpu, {torch.get_num_threads()} threads", "seed": options.seed, "fold": options.fold}
    about |= {"sounds": options.sounds, "clips": options.clips, "hop_seconds": options.hop_seconds}
    return about | {"seconds": len(sounds[0].waveform) / subject.info.sample_rate, "rows": rows}


if __name__ == "__main__":
    entry(main)
