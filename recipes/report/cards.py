"""The card of one explanation: its picture, its sounds, and what its two parts do to the classes."""

from collections.abc import Mapping, Sequence

from recipes.report.figures import bitmap
from recipes.report.page import Card, Sound
from recipes.scoring.answer import NOTABLE
from recipes.scoring.explanation import Explanation

PARTS = {"input": "sound", "relevant": "relevant", "residual": "residual"}
"""Names of the sounds of an explanation, as files and players have them, and the field that holds each."""


def part_sounds(explanation: Explanation, sample_rate: int) -> list[Sound]:
    """The input and its two parts as players have them."""
    return [Sound(name, getattr(explanation, field), sample_rate, name) for name, field in PARTS.items()]


def explanation_card(
    title: str,
    explanation: Explanation,
    names: Sequence[str],
    sounds: Sequence[Sound],
    label: str | None = None,
    scores: Mapping[str, float] | None = None,
) -> Card:
    """The card of an explanation.

    It lists the explained class, the ones that win on input, relevant or residual part, the true one, and all of a
    probability of `NOTABLE`, so that the runner-up is never hidden.
    """
    posteriors = (explanation.probabilities, explanation.relevant_probabilities, explanation.residual_probabilities)
    parts = [explanation.mean(posterior) for posterior in posteriors]
    listed = [explanation.target, *(int(part.argmax()) for part in parts)]
    if label is not None:
        listed.append(names.index(label))
    listed += [index for index in range(len(names)) if parts[0][index] >= NOTABLE]
    listed.sort(key=lambda index: -parts[0][index])
    sample_rate = sounds[0].sample_rate
    return Card(
        title=title,
        prediction=names[explanation.prediction],
        label=label,
        probabilities={names[index]: tuple(float(part[index]) for part in parts) for index in listed},
        scores=dict(scores or {"kept": float(explanation.mask.mean())}),
        picture=bitmap(explanation.log_magnitude, max(float(explanation.log_magnitude.max()), 1e-3), "magma"),
        mask=bitmap(explanation.mask, 1.0, "gray"),
        seconds=len(explanation.sound) / sample_rate,
        top_khz=sample_rate / 2000,
        sounds=sounds,
    )
