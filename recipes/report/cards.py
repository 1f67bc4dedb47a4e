"""Cards: what a page says, shows and plays of one clip, for one explanation or for several side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from recipes.data.sound_names import LABEL_JOINT
from recipes.report.markdown import percent
from recipes.report.media import Sound, importance_picture, level_picture, mask_picture
from recipes.scoring.verdict import NOTABLE, Verdict, verdict

if TYPE_CHECKING:
    from recipes.scoring.explanation import Explanation

LISTED_WINDOWS = 200
PARTS = {"input": "sound", "relevant": "relevant", "residual": "residual"}
"""Names of the sounds of an explanation, as files and players have them, and the field that holds each."""


@dataclass(frozen=True)
class View:
    """One explanation of a clip.

    name: of the method or of the explained class, where a card has several views. explained: the class. answer: what
    the classifier says of the two parts, as sentences. probabilities: class name -> probability on (input, relevant,
    residual). scores: by key, NaN where undefined. mask, importance: grey WebP images of the picture's size;
    importance is None where it is the mask itself. sounds: relevant and residual.
    """

    name: str
    explained: str
    verdict: Verdict
    answer: str
    probabilities: Mapping[str, tuple[float, float, float]]
    scores: Mapping[str, float]
    mask: bytes
    importance: bytes | None
    sounds: Sequence[Sound]


@dataclass(frozen=True)
class WindowAnswer:
    """What the classifier said of one window of a long sound."""

    start_seconds: float
    end_seconds: float
    prediction: str
    probability: float


@dataclass(frozen=True)
class Card:
    """One clip with its explanations.

    label: the true class, None where it is unknown. reason: why the clip was chosen. picture: grey WebP of the levels
    over `seconds` and 0 .. `top_khz`. sounds: those that belong to every view; the input is the last of them.
    choose_view: show one view at a time, and let the reader choose; otherwise they stand side by side.
    """

    title: str
    prediction: str
    label: str | None
    reason: str
    seconds: float
    top_khz: float
    picture: bytes
    sounds: Sequence[Sound]
    views: Sequence[View]
    windows: Sequence[WindowAnswer] = ()
    choose_view: bool = False

    @property
    def wrong(self) -> bool:
        return self.label not in (None, self.prediction)


@dataclass(frozen=True)
class Clip:
    """What a card says of a clip beside its explanations; see `Card`."""

    title: str
    label: str | None = None
    reason: str = ""
    sounds: Sequence[Sound] = field(default_factory=tuple)


def build_card(
    clip: Clip,
    views: Sequence[View],
    explanation: "Explanation",
    class_names: Sequence[str],
    sample_rate: int,
    choose_view: bool = False,
) -> Card:
    """The card of a clip. explanation: any of its explanations; all of them heard the same input."""
    sounds = clip.sounds or (Sound("input", explanation.sound, sample_rate, "input"),)
    return Card(
        title=clip.title,
        prediction=class_names[explanation.prediction if explanation.labels.exclusive else explanation.target],
        label=clip.label,
        reason=clip.reason,
        seconds=len(explanation.sound) / sample_rate,
        top_khz=sample_rate / 2000,
        picture=level_picture(explanation.log_magnitude),
        sounds=sounds,
        views=views,
        windows=_window_answers(explanation, class_names, sample_rate),
        choose_view=choose_view,
    )


def build_view(
    name: str,
    explanation: "Explanation",
    class_names: Sequence[str],
    sample_rate: int,
    scores: Mapping[str, float] | None = None,
    label: str | None = None,
) -> View:
    """The view of one explanation. label: the true classes, listed among the probabilities where they are known."""
    means = mean_probabilities(explanation)
    explained = explanation.target
    winners = [int(mean.argmax()) for mean in means]
    listed = [explained, *winners]
    if label is not None:
        true_names = {label, *label.split(LABEL_JOINT)}
        listed += [index for index, class_name in enumerate(class_names) if class_name in true_names]
    listed += np.flatnonzero(means[0] >= NOTABLE).tolist()
    probabilities = {}
    for index in dict.fromkeys(listed):
        probabilities[class_names[index]] = tuple(float(mean[index]) for mean in means)
    importance = None
    if not np.array_equal(explanation.importance, explanation.mask):
        importance = importance_picture(explanation.importance)
    return View(
        name=name,
        explained=class_names[explained],
        verdict=verdict(
            explained,
            explanation.answer(explanation.relevant_probabilities),
            explanation.answer(explanation.residual_probabilities),
        ),
        answer=answer(means, explained, class_names),
        probabilities=probabilities,
        scores=scores or {"kept": float(explanation.mask.mean())},
        mask=mask_picture(explanation.mask),
        importance=importance,
        sounds=(
            Sound("relevant", explanation.relevant, sample_rate, "relevant"),
            Sound("residual", explanation.residual, sample_rate, "residual"),
        ),
    )


def mean_probabilities(explanation: "Explanation") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities [K] on input, relevant part and residual, averaged over the sound's windows."""
    return (
        explanation.mean(explanation.probabilities),
        explanation.mean(explanation.relevant_probabilities),
        explanation.mean(explanation.residual_probabilities),
    )


def answer(means: Sequence[np.ndarray], explained: int, class_names: Sequence[str]) -> str:
    """What the classifier says of input, relevant part and residual, as sentences.

    "rain, 81 %; next rooster, 19 %. The relevant part alone: rain 1 %, rooster 50 %. Without it: rain 56 %."
    """
    whole, relevant, residual = means
    by_probability = np.argsort(-whole, kind="stable")
    first = int(by_probability[0])
    sentences = f"{class_names[first]}, {percent(whole[first])}"
    if explained != first:
        sentences += f"; explained is {class_names[explained]}, {percent(whole[explained])}"
    elif len(whole) > 1:
        second = int(by_probability[1])
        sentences += f"; next {class_names[second]}, {percent(whole[second])}"
    sentences += f". The relevant part alone: {_of_part(relevant, explained, class_names)}"
    return f"{sentences}. Without it: {_of_part(residual, explained, class_names)}."


def _of_part(mean: np.ndarray, explained: int, class_names: Sequence[str]) -> str:
    """The explained class's probability on a part, and the winner where it is another class."""
    winner = int(mean.argmax())
    text = f"{class_names[explained]} {percent(mean[explained])}"
    return text if winner == explained else f"{text}, {class_names[winner]} {percent(mean[winner])}"


def _window_answers(explanation: "Explanation", class_names: Sequence[str], sample_rate: int) -> Sequence[WindowAnswer]:
    """The strip of a long sound's windows; nothing for a sound of one window."""
    if len(explanation.probabilities) < 2:
        return ()
    seconds = len(explanation.sound) / sample_rate
    windows = []
    for number, probabilities in enumerate(explanation.probabilities[:LISTED_WINDOWS]):
        start = number * explanation.window_seconds
        end = min(start + explanation.window_seconds, seconds)
        best = int(probabilities.argmax())
        windows.append(WindowAnswer(start, end, class_names[best], float(probabilities[best])))
    return windows
