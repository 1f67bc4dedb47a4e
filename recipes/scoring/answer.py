"""The answer about one sound: which classes are heard, which one is explained, and what its two parts do to each."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.labels import ONE_LABEL, Labels
from recipes.scoring.explanation import ExplainedWindow, class_heard, weighted_mean
from recipes.scoring.verdict import NOTABLE, Verdict, verdict

TOP = 3


@dataclass(frozen=True)
class ClassAnswer:
    """One class by name: its probability on the whole sound, on the relevant part alone and on the residual."""

    name: str
    input: float
    relevant: float
    residual: float


@dataclass
class Answer:
    """What is said of a sound of W windows, collected window by window.

    names: the classes, in the order of the classifier's outputs. rate: Hz. probabilities, relevant_probabilities,
    residual_probabilities: W posteriors [K]. starts, samples: of each window, in samples. targets: the class that each
    explains. labels: what the probabilities mean.
    """

    names: Sequence[str]
    rate: int
    probabilities: list[np.ndarray] = field(default_factory=list)
    relevant_probabilities: list[np.ndarray] = field(default_factory=list)
    residual_probabilities: list[np.ndarray] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    samples: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    kept_sum: float = 0.0
    frames: int = 0
    labels: Labels = ONE_LABEL

    def add(self, window: ExplainedWindow) -> None:
        """Take in the next window."""
        self.probabilities.append(window.probabilities)
        self.relevant_probabilities.append(window.relevant_probabilities)
        self.residual_probabilities.append(window.residual_probabilities)
        self.starts.append(window.start)
        self.samples.append(len(window.sound))
        self.targets.append(window.target)
        self.labels = window.labels
        self.kept_sum += float(window.mask.mean(axis=1, dtype=np.float64).sum())
        self.frames += len(window.mask)

    @property
    def seconds(self) -> float:
        return sum(self.samples) / self.rate

    @property
    def kept(self) -> float:
        """Fraction of the time-frequency plane that is kept."""
        return self.kept_sum / self.frames

    @property
    def prediction(self) -> int:
        """Index of the most probable class of the whole sound."""
        return int(self.mean(self.probabilities).argmax())

    @property
    def target(self) -> int:
        """The class that is explained; the predicted one where windows explain several."""
        return self.targets[0] if len(set(self.targets)) == 1 else self.prediction

    @property
    def one_class(self) -> bool:
        """Whether all windows explain one class."""
        return len(set(self.targets)) == 1

    def mean(self, posteriors: Sequence[np.ndarray]) -> np.ndarray:
        """[K] of the whole sound: windows weigh by the samples they hold."""
        return weighted_mean(np.stack(posteriors), np.array(self.samples))

    def classes(self, at_least: float = NOTABLE) -> list[ClassAnswer]:
        """The predicted class, the explained one, and all of a probability of `at_least`; the most probable first."""
        whole = self.mean(self.probabilities)
        relevant, residual = self.mean(self.relevant_probabilities), self.mean(self.residual_probabilities)
        chosen = {self.prediction, self.target, *np.flatnonzero(whole >= at_least).tolist()}
        ordered = sorted(chosen, key=lambda index: -whole[index])
        answers = []
        for index in ordered:
            probabilities = float(whole[index]), float(relevant[index]), float(residual[index])
            answers.append(ClassAnswer(self.names[index], *probabilities))
        return answers

    def scores(self) -> dict[str, float]:
        """fid_i and fa of the explained class on the whole sound, and kept."""
        relevant, target = self.mean(self.relevant_probabilities), self.target
        lost = self.mean(self.probabilities)[target] - self.mean(self.residual_probabilities)[target]
        kept = class_heard(self.labels, relevant, target) == target
        return {"fid_i": float(kept), "fa": float(lost), "kept": self.kept}

    @property
    def verdict(self) -> Verdict:
        """On the explanation of the whole sound."""
        heard = []
        for posteriors in (self.relevant_probabilities, self.residual_probabilities):
            heard.append(class_heard(self.labels, self.mean(posteriors), self.target))
        return verdict(self.target, *heard)

    def document(self) -> dict:
        """The answer for JSON: the whole sound, then what each window would have said."""
        windows = []
        for number, start in enumerate(self.starts):
            windows.append(
                {
                    "start_seconds": round(start / self.rate, 3),
                    "prediction": self.names[int(self.probabilities[number].argmax())],
                    "target": self.names[self.targets[number]],
                    "input": self.top(self.probabilities[number]),
                    "relevant": self.top(self.relevant_probabilities[number]),
                    "residual": self.top(self.residual_probabilities[number]),
                }
            )
        return {
            "seconds": self.seconds,
            "prediction": self.names[self.prediction],
            "target": self.names[self.target],
            "top": self.top(self.mean(self.probabilities)),
            "classes": [vars(answer) for answer in self.classes()],
            "kept": self.kept,
            "scores": self.scores(),
            "windows": windows,
        }

    def top(self, posterior: np.ndarray) -> dict[str, float]:
        """The most probable classes by name."""
        order = np.argsort(-posterior)[:TOP]
        probabilities = {}
        for index in order.tolist():
            probabilities[self.names[index]] = float(posterior[index])
        return probabilities
